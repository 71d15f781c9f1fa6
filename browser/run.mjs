// All tests in one process, one after the other: they share a browser, a gateway and a cluster. Names of files in
// tests/ pick some: `scripts/browser answer progress`.

import { readdirSync } from 'node:fs';

const SUFFIX = '.test.mjs';
const files = readdirSync(new URL('tests', import.meta.url)).filter(file => file.endsWith(SUFFIX)).sort();
const there = files.map(file => file.slice(0, -SUFFIX.length));
const wanted = process.argv.slice(2);

const unknown = wanted.filter(name => !there.includes(name));
if (unknown.length > 0) {
  console.error(`browser: no test named ${unknown.join(', ')}; there are ${there.join(', ')}`);
  process.exit(2);
}
for (const name of wanted.length > 0 ? wanted : there) await import(`./tests/${name}${SUFFIX}`);
