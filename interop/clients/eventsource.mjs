// npm's `eventsource`, as it is: it reconnects by itself. What these programs print is in ../README.md.
//
// eventsource.mjs URL...   run in the folder that has node_modules

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.cwd()}/`);
const { EventSource } = await import(pathToFileURL(require.resolve('eventsource')));

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

say({ what: 'version', text: `eventsource ${require('eventsource/package.json').version}, Node ${process.versions.node}` });

process.argv.slice(2).forEach((url, stream) => {
  const source = new EventSource(url);
  source.addEventListener('sse.open', (event) => say({ stream, what: 'open', data: event.data }));
  source.addEventListener('sse.gap', (event) => say({ stream, what: 'gap', data: event.data }));
  source.addEventListener('message', (event) => say({ stream, what: 'event', id: event.lastEventId, data: event.data }));
  source.addEventListener('error', (event) => {
    const over = source.readyState === EventSource.CLOSED;
    say({ stream, what: over ? 'over' : 'cut', data: event.message ?? '' });
  });
});

// It lets the process end while all of its streams wait to reconnect.
setInterval(() => {}, 60_000);
