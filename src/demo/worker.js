// SPDX-License-Identifier: Apache-2.0
// <img>, <video> and <audio> cannot send an Authorization header: this adds it to their requests for media. The token is
// the page's; it is asked for each time, because a worker may be ended and started again at any moment.

const MEDIA = '/_matrix/client/v1/media/download/';
const ELEMENTS = ['image', 'video', 'audio'];
const ANSWER_TIMEOUT_MS = 5000;

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
// A page that was reloaded past its worker (shift and reload) asks to be taken back.
self.addEventListener('message', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const isMedia = url.origin === self.location.origin && url.pathname.startsWith(MEDIA);
  if (isMedia && request.method === 'GET' && ELEMENTS.includes(request.destination)) {
    event.respondWith(fetchWithToken(request, event.clientId));
  }
});

async function fetchWithToken(request, clientId) {
  const headers = new Headers();
  // A player seeks by Range. The cache is left out: it would hold a second request back until the first has ended.
  for (const name of ['Range', 'If-Range']) {
    if (request.headers.has(name)) headers.set(name, request.headers.get(name));
  }
  const token = await askForToken(clientId);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  return fetch(request.url, { headers, cache: 'no-store', credentials: 'omit', mode: 'same-origin', signal: request.signal });
}

async function askForToken(clientId) {
  const page = await self.clients.get(clientId);
  if (!page) return null;
  const channel = new MessageChannel();
  return new Promise((resolve) => {
    channel.port1.onmessage = (event) => resolve(event.data);
    setTimeout(() => resolve(null), ANSWER_TIMEOUT_MS);
    page.postMessage('token?', [channel.port2]);
  });
}
