/** The live calls, for a person to look at. One file, nothing fetched from elsewhere; numbers come in as text, never as HTML. */
export const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Simulated carrier</title>
<style>
  :root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --ground: #fbfbfa; --line: #ddd; --talk: #14804a; --ring: #a86400; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8e8e6; --soft: #9a9aa2; --ground: #16181b; --line: #333; --talk: #52c98a; --ring: #e0a84a; }
  }
  body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
  h1 { font-size: 1.3rem; margin: 0 0 1rem; }
  dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0 0 1.5rem; }
  dt { color: var(--soft); font-size: .85rem; }
  dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
  table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th { text-align: left; color: var(--soft); font-weight: normal; font-size: .85rem; }
  th, td { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line); }
  .in-progress { color: var(--talk); } .ringing, .initiated { color: var(--ring); }
  #note { color: var(--soft); }
</style>
</head>
<body>
<h1>Simulated carrier</h1>
<dl id="totals"></dl>
<table>
  <thead><tr><th>To</th><th>From</th><th>Status</th><th>For</th><th>Account</th></tr></thead>
  <tbody id="calls"></tbody>
</table>
<p id="note" role="status">Loading…</p>
<script>
const shown = [['live', 'Live now'], ['max_live', 'Most at once'], ['calls', 'Calls'], ['numbers', 'Numbers called'],
  ['doubled', 'Called more than once'], ['max_starts_per_second', 'Most starts in a second']];
function element(name, text, className) {
  const node = document.createElement(name);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}
function row(call, now_us) {
  const node = document.createElement('tr');
  const since = call.statuses[call.statuses.length - 1].at_us;
  const seconds = Math.max(0, now_us - since) / 1e6;
  node.append(element('td', call.to), element('td', call.from), element('td', call.status, call.status),
    element('td', seconds.toFixed(1) + ' s'), element('td', call.account));
  return node;
}
async function refresh() {
  const note = document.getElementById('note');
  try {
    const { totals, calls, now_us } = await (await fetch('/_sim/live')).json();
    document.getElementById('totals').replaceChildren(...shown.map(([key, label]) => {
      const pair = document.createElement('div');
      pair.append(element('dt', label), element('dd', totals[key].toLocaleString('en')));
      return pair;
    }));
    document.getElementById('calls').replaceChildren(...calls.map((call) => row(call, now_us)));
    note.textContent = calls.length === 0 ? 'No live calls.' : calls.length < totals.live ? 'The newest ' + calls.length + ' of ' + totals.live + ' live calls.' : '';
  } catch {
    note.textContent = 'The simulated carrier does not answer.';
  }
  setTimeout(refresh, 1000);
}
refresh();
</script>
</body>
</html>
`;
