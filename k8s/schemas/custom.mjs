// Holds documents, a JSON array on standard input, against the schemas of the Prometheus operator's kinds in the node_modules
// that the argument names. Writes what is wrong with each, as an array of arrays.
//
// The package's validators are compiled, and say nothing of a key that no schema has. They read every key that one has, though:
// so each document is watched while it is read, and a key that nobody read is a misspelt one.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const PACKAGE = '@kubernetes-models/prometheus-operator';
const NAMES = 'ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring';

const [modules] = process.argv.slice(2);

async function validatorOf({ apiVersion, kind }) {
  const version = /^monitoring[.]coreos[.]com[/]v(\w+)$/.exec(apiVersion)?.[1];
  if (!version || !/^[A-Za-z]+$/.test(kind ?? '')) return undefined;
  const file = `${modules}/${PACKAGE}/_schemas/${NAMES}V${version}${kind}.js`;
  try {
    return (await import(pathToFileURL(file))).validate;
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

// A view of `value` that notes in `read` which keys of each object were read.
function watched(value, read) {
  if (value === null || typeof value !== 'object') return value;
  const keys = new Set();
  read.set(value, keys);
  const views = new Map();
  return new Proxy(value, {
    get(target, key) {
      keys.add(key);
      if (!views.has(key)) views.set(key, watched(target[key], read));
      return views.get(key);
    },
  });
}

function* unread(value, read, path) {
  if (value === null || typeof value !== 'object') return;
  for (const key of Object.keys(value)) {
    if (!read.get(value)?.has(key)) yield `${path}: the key '${key}' is in no schema`;
    else yield* unread(value[key], read, `${path}.${key}`);
  }
}

async function complaints(document) {
  const validate = await validatorOf(document);
  if (!validate) return [`no schema is known of ${document.apiVersion} ${document.kind}`];
  const read = new Map();
  if (!validate(watched(document, read))) {
    return validate.errors.map(({ instancePath, message, keyword }) => `${instancePath}: ${message ?? keyword}`);
  }
  return [...unread(document, read, '')];
}

const documents = JSON.parse(readFileSync(0, 'utf8'));
const all = [];
for (const document of documents) all.push(await complaints(document));
process.stdout.write(JSON.stringify(all));
