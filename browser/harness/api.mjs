// What a back end does, over HTTP: publish, and read what was published.

async function answer(url, options) {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000), ...options });
  const text = await response.text();
  if (!response.ok) throw new Error(`${options?.method ?? 'GET'} ${url}: ${response.status} ${text}`);
  return text;
}

export const status = async url => (await fetch(url, { signal: AbortSignal.timeout(2_000) })).status;
export const json = async (url, options) => JSON.parse(await answer(url, options));

/** One event; the receipt, `{id, receivers}`. */
export function publish(base, event) {
  const headers = { 'Content-Type': 'application/json' };
  return json(`${base}/publish`, { method: 'POST', headers, body: JSON.stringify(event) });
}

/** All of a channel's events, over as many pages as it takes. Throws where some are not kept, unless `part`. */
export async function history(base, channel, { part = false } = {}) {
  const events = [];
  for (let more = true, after = ''; more;) {
    const page = await json(`${base}/channels/${encodeURIComponent(channel)}/events?limit=1000${after}`);
    if (page.gap && !part) throw new Error(`history of ${channel}: ${page.gap}`);
    events.push(...page.events);
    more = page.more;
    if (events.length > 0) after = `&after=${events.at(-1).id}`;
  }
  return events;
}

/** A metric of an operator port, all its labels together. */
export async function metric(admin, name) {
  const lines = (await answer(`${admin}/metrics`)).split('\n').filter(line => line.match(/^[a-z_]+/)?.[0] === name);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}
