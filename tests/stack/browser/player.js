// SPDX-License-Identifier: Apache-2.0
// Plays media of another origin and tells what is to be seen. Every video goes by a name.

const videos = {};

/** Begins to load. With `plays`, it also plays. */
function openVideo(name, address, preload, plays) {
  const video = document.createElement('video');
  videos[name] = video;
  video.crossOrigin = 'anonymous'; // or its pixels could not be read
  video.muted = true;
  video.preload = preload;
  video.src = address;
  video.firstFrame = frameOf(video, () => true);
  video.firstFrame.catch(() => {}); // whoever asks for it is told
  document.body.append(video);
  if (plays) video.play().catch(() => {});
}

const firstFrame = (name, timeoutMs) => within(timeoutMs, videos[name].firstFrame, 'the first frame');

/** The frame at `time`, as soon as it is there. */
function seek(name, time, timeoutMs) {
  const video = videos[name];
  const frame = frameOf(video, ({ mediaTime }) => Math.abs(mediaTime - time) < 0.1);
  video.pause();
  video.currentTime = time;
  return within(timeoutMs, frame, `the frame at ${time}`);
}

/** When it was shown (milliseconds of the epoch), its place in the video, and the mean colour of its middle. */
function frameOf(video, isWanted) {
  return new Promise((resolve, reject) => {
    video.addEventListener('error', () => reject(new Error(`${video.error.code}: ${video.error.message}`)));
    const look = (now, metadata) => {
      if (!isWanted(metadata)) {
        video.requestVideoFrameCallback(look);
        return;
      }
      const shownAt = performance.timeOrigin + now;
      resolve({ shownAt, mediaTime: metadata.mediaTime, width: video.videoWidth, colour: colourOf(video) });
    };
    video.requestVideoFrameCallback(look);
  });
}

function colourOf(video) {
  const canvas = document.createElement('canvas');
  const [width, height] = [video.videoWidth / 2, video.videoHeight / 2];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.drawImage(video, width / 2, height / 2, width, height, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const sum = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) sum.forEach((_, channel) => { sum[channel] += data[i + channel]; });
  return sum.map((total) => Math.round(total / (width * height)));
}

function within(timeoutMs, promise, what) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${what} did not come within ${timeoutMs} ms`)), timeoutMs);
  });
  return Promise.race([promise, late]);
}
