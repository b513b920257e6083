// SPDX-License-Identifier: Apache-2.0
// Sends a file and gives its link at once; or, opened by such a link (#mxc=…), watches it arrive.

import { Timeline, describeBytes, element } from './timeline.js';

const PAGE = '/_sluice/demo';
const TOKEN_KEY = 'sluice-demo-token';
const BY_LINK_KEY = 'sluice-demo-token-is-by-link';
const POLL_MS = 200;
const WAIT_MS = 30000; // for one stalled download; asked again when it is over
const PAUSE_MS = 1000; // when the server does not let a download wait
const WORKER_PATIENCE_MS = 4000;
const TEXT_PREVIEW_CHARACTERS = 64 * 1024;
const FIRST_AT_SERVER = 'first byte at the server';
const BLOB_BYTES = 4 << 20; // received bytes are handed to the browser in pieces: it may keep them on disk

const $ = (id) => document.getElementById(id);
const timeline = new Timeline({ svg: $('timeline'), legend: $('legend'), figures: $('figures'), panel: $('timeline-panel') });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// ---- the token ----

let token = null;
let sizeLimit = Infinity;

/** What the address says. The token is taken out of it, where it would be shared with the link. */
function takeFragment() {
  // Not URLSearchParams: a + is a + here.
  const pairs = location.hash.slice(1).split('&').filter(Boolean).map((pair) => {
    const [name, ...rest] = pair.split('=');
    return [name, decoded(rest.join('='))];
  });
  const given = Object.fromEntries(pairs);
  if (given.token !== undefined) {
    const rest = location.hash.slice(1).split('&').filter((pair) => !pair.startsWith('token=')).join('&');
    history.replaceState(null, '', location.pathname + (rest && `#${rest}`));
  }
  return given;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // no percent-encoding
  }
}

function withToken(headers = {}) {
  return { ...headers, Authorization: `Bearer ${token}` };
}

function keepToken(kept, isByLink) {
  sessionStorage.setItem(TOKEN_KEY, kept);
  if (isByLink) sessionStorage.setItem(BY_LINK_KEY, 'yes');
  else sessionStorage.removeItem(BY_LINK_KEY);
}

function forgetToken() {
  sessionStorage.removeItem(TOKEN_KEY);
  sessionStorage.removeItem(BY_LINK_KEY);
}

/**
 * A link may come from anybody: whoever follows it would send files as its owner. So it signs in only who is not signed
 * in, and it says so.
 */
function takeTokenOfLink(given) {
  const kept = sessionStorage.getItem(TOKEN_KEY);
  if (!given || given === kept) return;
  if (!kept) {
    keepToken(given, true);
    return;
  }
  const take = element('button', { type: 'button', class: 'plain' }, 'Use the link’s');
  take.onclick = () => {
    keepToken(given, true);
    location.reload();
  };
  tellOfLink('This link brought another token than the one of this tab. Yours stays. ', take);
}

function tellOfLink(...parts) {
  $('link-notice').replaceChildren(...parts);
  $('link-notice').hidden = false;
}

/** Asks until a token is one that the server knows. */
async function signIn() {
  token = sessionStorage.getItem(TOKEN_KEY);
  let isByLink = sessionStorage.getItem(BY_LINK_KEY) !== null;
  for (;;) {
    if (token) {
      try {
        const limits = await callServer('GET', '/_matrix/client/v1/media/config');
        sizeLimit = limits['m.upload.size'] ?? Infinity;
        break;
      } catch (error) {
        tell(error, 'bad');
      }
    }
    token = await askForToken();
    isByLink = false;
    clearNotices();
  }
  keepToken(token, isByLink);
  if (isByLink && $('link-notice').hidden) {
    tellOfLink('This link signed you in: what you send is sent as its owner. If it is not yours, change the token.');
  }
  $('limit').textContent = Number.isFinite(sizeLimit) ? `Files up to ${describeBytes(sizeLimit)}.` : '';
  $('signed-in').hidden = false;
}

function askForToken() {
  $('token-panel').hidden = false;
  $('token').focus();
  return new Promise((resolve) => {
    $('token-form').onsubmit = (event) => {
      event.preventDefault();
      $('token-panel').hidden = true;
      resolve($('token').value.trim());
      $('token').value = '';
    };
  });
}

// ---- the server ----

class Refusal extends Error {
  constructor(status, body) {
    super(body.errcode ? `${body.error} (${body.errcode})` : `The server answered ${status}`);
    this.status = status;
    this.errcode = body.errcode;
    this.retryAfterMs = body.retry_after_ms;
  }

  static async of(response) {
    return new Refusal(response.status, await response.json().catch(() => ({})));
  }
}

async function callServer(method, path, body) {
  const response = await fetch(path, {
    method, body, cache: 'no-store', headers: withToken(body ? { 'Content-Type': 'application/json' } : {}),
  });
  if (!response.ok) throw await Refusal.of(response);
  return response.json();
}

function splitMxc(uri) {
  // A host name, an IPv4 or an [IPv6] address, perhaps a :port. A name of dots only would lead to another path.
  const match = /^mxc:\/\/((?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[A-Fa-f0-9:.]+\])(?::[0-9]+)?)\/([A-Za-z0-9_-]+)$/.exec(uri);
  if (!match) throw new Error(`This is no mxc URI: ${uri}`);
  return match.slice(1).map(encodeURIComponent).join('/');
}

const progressOf = (mxc) => callServer('GET', `${PAGE}/progress/${splitMxc(mxc)}`);

/** Draws what has arrived at the server until `isOver()`, and once more then. */
async function watchServer(mxc, isOver) {
  for (;;) {
    const isLast = isOver();
    try {
      const progress = await progressOf(mxc);
      timeline.expect(progress.size);
      if (progress.state !== 'pending') timeline.add('server', progress.received);
      if (progress.received === 0) sawNothing = true;
      else if (sawNothing) timeline.mark(FIRST_AT_SERVER);
    } catch {
      // Whoever sends or receives will be told.
    }
    if (isLast) return;
    await pause(POLL_MS);
  }
}

let sawNothing = false; // yet: who comes late cannot tell when the first byte came

// ---- what is told ----

function tell(error, kind = '') {
  const text = error instanceof TypeError ? 'The server cannot be reached.' : (error.message ?? error);
  $('notices').replaceChildren(element('p', { class: `notice ${kind}` }, text));
}

const clearNotices = () => $('notices').replaceChildren();

function state(end, text, kind = '') {
  $(`${end}-state`).textContent = text;
  $(`${end}-state`).className = `state ${kind}`;
  $(`${end}-progress`).className = kind;
}

function progressBar(end, bytes, total) {
  if (total) $(`${end}-progress`).value = bytes / total;
  else $(`${end}-progress`).removeAttribute('value');
}

const ofTotal = (bytes, total) => describeBytes(bytes) + (total ? ` of ${describeBytes(total)}` : '');

// ---- sending ----

let sending = null; // the running XMLHttpRequest

async function send(file) {
  clearNotices();
  if (file.size > sizeLimit) {
    const sizes = `${describeBytes(file.size)}, and this server takes ${describeBytes(sizeLimit)}`;
    tell(`${file.name} is too large: ${sizes} (M_TOO_LARGE).`, 'bad');
    return;
  }
  timeline.begin();
  let mxc;
  try {
    mxc = (await callServer('POST', '/_matrix/media/v1/create', '{}')).content_uri;
  } catch (error) {
    tell(error, 'bad');
    return;
  }
  timeline.mark('link made');
  $('choose-panel').hidden = true;
  $('send-panel').hidden = false;
  $('send-name').textContent = file.name;
  const link = `${location.origin}${PAGE}#mxc=${mxc}`;
  $('mxc').textContent = mxc;
  $('share').value = link;
  $('open-tab').href = link;
  $('follow').onclick = () => {
    $('follow').hidden = true;
    receive(mxc, { isAlone: false });
  };
  $('send-again').onclick = () => {
    timeline.begin();
    upload(file, mxc);
    if (!$('receive-panel').hidden && !receiving) receive(mxc, { isAlone: false });
  };
  upload(file, mxc);
}

/** Fills the id. XMLHttpRequest, because fetch() does not tell how much of a body has gone. */
async function upload(file, mxc) {
  clearNotices();
  for (const id of ['send-again', 'send-another']) $(id).hidden = true;
  $('cancel').hidden = false;
  state('send', 'Sending…');
  timeline.expect(file.size);
  timeline.run();
  const request = new XMLHttpRequest();
  sending = request;
  let isOver = false;
  const watching = watchServer(mxc, () => isOver);
  try {
    await new Promise((resolve, reject) => {
      request.open('PUT', `/_matrix/media/v3/upload/${splitMxc(mxc)}?filename=${encodeURIComponent(file.name)}`);
      for (const [name, value] of Object.entries(withToken({ 'Content-Type': file.type || 'application/octet-stream' }))) {
        request.setRequestHeader(name, value);
      }
      request.upload.onprogress = ({ loaded }) => {
        timeline.add('sent', loaded);
        progressBar('send', loaded, file.size);
        const isSent = loaded >= file.size;
        state('send', isSent ? 'Sent; the server is putting it on disk…' : `Sending: ${ofTotal(loaded, file.size)}`);
      };
      request.onload = () => (request.status === 200 ? resolve() : reject(refusalOf(request)));
      request.onabort = () => reject(new Error('You cancelled the upload. Whoever is receiving sees it broken.'));
      request.onerror = () => reject(new Error('The upload broke off: the server is gone, or has ended the connection.'));
      request.send(file);
      timeline.add('sent', 0);
    });
    if (file.size > 0) timeline.mark(FIRST_AT_SERVER); // at the latest
    timeline.mark('stored by the server', 'stored');
    progressBar('send', 1, 1);
    state('send', `Sent and safely stored: ${describeBytes(file.size)}.`, 'good');
  } catch (error) {
    timeline.mark('broken off', 'broken');
    state('send', error.message, 'bad');
    $('send-again').hidden = false;
  }
  isOver = true;
  sending = null;
  $('cancel').hidden = true;
  $('send-another').hidden = false;
  await watching;
  if (!receiving) timeline.stop();
}

function refusalOf(request) {
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    // A proxy's page, perhaps.
  }
  return new Refusal(request.status, body);
}

// ---- receiving ----

let receiving = false;

async function receive(mxc, { isAlone }) {
  $('receive-panel').hidden = false;
  $('send-own').hidden = !isAlone;
  for (const id of ['receive-again', 'save']) $(id).hidden = true;
  $('receive-name').textContent = mxc;
  $('viewer').replaceChildren();
  progressBar('receive', 0, 1);
  if (isAlone) timeline.begin();
  timeline.run();
  receiving = true;
  let isOver = false;
  let watching = null;
  let received = 0;
  let total = null;
  try {
    splitMxc(mxc);
    if (isAlone) watching = watchServer(mxc, () => isOver);
    const response = await openMedia(mxc);
    const name = nameOf(response) || 'unnamed';
    const type = (response.headers.get('Content-Type') ?? '').split(';')[0].trim().toLowerCase();
    total = Number(response.headers.get('Content-Length')) || null;
    timeline.expect(total);
    timeline.add('here', 0);
    $('receive-name').textContent = `${name} (${type})`;
    const viewer = await makeViewer(type, mxc, name);
    const pieces = [];
    let fresh = [];
    let freshBytes = 0;
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      fresh.push(value);
      freshBytes += value.length;
      received += value.length;
      if (sawNothing) timeline.mark(FIRST_AT_SERVER); // unless it has been told already
      timeline.mark('first byte here', 'first byte');
      timeline.add('here', received);
      progressBar('receive', received, total);
      state('receive', `Receiving: ${ofTotal(received, total)}`);
      viewer.take(value);
      if (freshBytes >= BLOB_BYTES) {
        pieces.push(new Blob(fresh));
        fresh = [];
        freshBytes = 0;
      }
    }
    timeline.mark('all received', 'all here');
    progressBar('receive', 1, 1);
    state('receive', `Received whole: ${describeBytes(received)}.`, 'good');
    // Of no type that a browser would show: opened as a page of this origin it could do anything.
    $('save').href = URL.createObjectURL(new Blob([...pieces, ...fresh], { type: 'application/octet-stream' }));
    $('save').download = name;
    $('save').textContent = `Save ${name}`;
    $('save').hidden = false;
  } catch (error) {
    await tellBroken(mxc, error, received, total);
    $('receive-again').hidden = false;
    $('receive-again').onclick = () => receive(mxc, { isAlone });
  }
  isOver = true;
  receiving = false;
  await watching;
  if (!sending) timeline.stop();
}

/** The response of a download, as soon as the upload has begun. */
async function openMedia(mxc) {
  for (;;) {
    state('receive', 'Waiting for the upload to begin…');
    $('receive-progress').removeAttribute('value');
    const asked = performance.now();
    const response = await fetch(`${mediaPath(mxc)}?timeout_ms=${WAIT_MS}`, { cache: 'no-store', headers: withToken() });
    if (response.ok) return response;
    const refusal = await Refusal.of(response);
    if (refusal.errcode !== 'M_NOT_YET_UPLOADED') throw refusal;
    if (performance.now() - asked < PAUSE_MS) await pause(PAUSE_MS);
  }
}

const mediaPath = (mxc) => `/_matrix/client/v1/media/download/${splitMxc(mxc)}`;

async function tellBroken(mxc, error, received, total) {
  progressBar('receive', received, total ?? 1);
  if (error instanceof Refusal || received === 0) {
    state('receive', error instanceof TypeError ? 'The connection broke.' : error.message, 'bad');
    return;
  }
  timeline.mark('broken off', 'broken');
  // A body that ends too early may be the sender's end of it, or only ours.
  const progress = await progressOf(mxc).catch(() => null);
  const what = progress?.state === 'pending' ? 'The upload broke off' : 'The connection broke off';
  state('receive', `${what} after ${ofTotal(received, total)}. What came is not the whole file, and cannot be saved.`, 'bad');
}

function nameOf(response) {
  const field = response.headers.get('Content-Disposition') ?? '';
  const extended = /filename\*\s*=\s*utf-8''([^;\s]+)/i.exec(field);
  if (extended) return decoded(extended[1]);
  const plain = /filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/i.exec(field);
  return plain ? (plain[2] ?? plain[1].replace(/\\(.)/g, '$1')) : '';
}

/** Shows what can be shown while it arrives. `take` is given every piece. */
async function makeViewer(type, mxc, name) {
  const kind = type.split('/')[0];
  if (kind === 'text' || type === 'application/json') return viewText();
  if (!['image', 'video', 'audio'].includes(kind)) return { take() {} };
  const address = await mediaAddress(mxc);
  const viewer = { image: viewImage, video: viewPlayer, audio: viewPlayer }[kind](kind, address, name);
  viewer.onerror = () => {
    if (viewer.dataset.shown) return; // it was cut, not unknown
    viewer.replaceWith(element('p', { class: 'quiet' }, `This browser cannot show ${type}; once it is here it can be saved.`));
  };
  $('viewer').replaceChildren(viewer);
  return { take() {} };
}

function viewText() {
  const shown = element('pre', { tabindex: '0', 'aria-label': 'The text so far' });
  const decoder = new TextDecoder();
  $('viewer').replaceChildren(shown);
  return {
    take(bytes) {
      if (shown.textContent.length >= TEXT_PREVIEW_CHARACTERS) return;
      shown.append(decoder.decode(bytes, { stream: true }));
      if (shown.textContent.length >= TEXT_PREVIEW_CHARACTERS) shown.append('\n… more in the file');
    },
  };
}

function viewImage(kind, address, name) {
  const image = element('img', { alt: name, src: address });
  image.onload = () => {
    image.dataset.shown = true;
    timeline.mark('whole picture', 'picture');
  };
  return image;
}

function viewPlayer(kind, address) {
  const player = element(kind, { controls: '', playsinline: '', src: address });
  player.muted = true; // or the browser would not let it begin by itself
  // Not the attribute autoplay: that waits until all would come in time, which a slow upload does not promise.
  player.play().catch(() => {});
  const shown = () => {
    player.dataset.shown = true;
    timeline.mark(kind === 'video' ? 'first frame' : 'first sound', kind === 'video' ? 'first frame' : 'first sound');
  };
  if (kind === 'video' && player.requestVideoFrameCallback) player.requestVideoFrameCallback(shown);
  else player.onplaying = shown;
  return player;
}

// ---- the service worker, which adds the token to the requests of elements ----

let workerIsReady = null;

async function startWorker() {
  const workers = navigator.serviceWorker;
  if (!workers) return false;
  workers.onmessage = (event) => event.ports[0]?.postMessage(token);
  try {
    await workers.register(`${PAGE}/worker.js`, { scope: PAGE });
    const { active } = await workers.ready;
    if (!workers.controller) {
      const controls = new Promise((resolve) => workers.addEventListener('controllerchange', resolve, { once: true }));
      active.postMessage('claim');
      await Promise.race([controls, pause(WORKER_PATIENCE_MS)]);
    }
  } catch {
    return false;
  }
  return workers.controller !== null;
}

/** What an element loads it from. */
async function mediaAddress(mxc) {
  if (await workerIsReady) return mediaPath(mxc);
  tell('There is no service worker here (it needs HTTPS, or localhost): the picture or player carries the token in its '
    + 'address, where logs may keep it.');
  return `${mediaPath(mxc)}?access_token=${encodeURIComponent(token)}`;
}

// ---- the page ----

async function main() {
  const given = takeFragment();
  takeTokenOfLink(given.token);
  const shown = location.hash;
  window.addEventListener('hashchange', () => {
    // Not its token: only a link that opens the page signs in.
    const { token: ignored } = takeFragment();
    if (location.hash !== shown) location.reload();
    else if (ignored !== undefined && ignored !== token) tell('The token in the address was not taken: this page is open already.');
  });
  window.addEventListener('beforeunload', (event) => {
    if (sending) event.preventDefault();
  });
  $('change-token').onclick = () => {
    forgetToken();
    location.reload();
  };
  workerIsReady = startWorker();
  await signIn();
  if (given.mxc) {
    receive(given.mxc, { isAlone: true });
    return;
  }
  $('choose-panel').hidden = false;
  $('file').onchange = () => {
    if ($('file').files.length > 0) send($('file').files[0]);
    $('file').value = '';
  };
  $('cancel').onclick = () => sending?.abort();
  $('send-another').onclick = () => location.reload();
  $('copy').onclick = copyLink;
  takeDrops();
}

async function copyLink() {
  $('share').select();
  if (navigator.clipboard) await navigator.clipboard.writeText($('share').value);
  else document.execCommand('copy');
  $('copy').textContent = 'Copied';
  setTimeout(() => { $('copy').textContent = 'Copy'; }, 1500);
}

function takeDrops() {
  const body = document.body;
  const isOpen = () => !$('choose-panel').hidden;
  body.ondragover = (event) => {
    event.preventDefault();
    body.classList.toggle('dragging', isOpen());
  };
  body.ondragleave = () => body.classList.remove('dragging');
  body.ondrop = (event) => {
    event.preventDefault();
    body.classList.remove('dragging');
    const file = event.dataTransfer.files[0];
    if (file && isOpen()) send(file);
  };
}

main();
