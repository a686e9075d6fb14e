import { type Node, isNode, isShipped, lineAt, nameOf, nodes, type Rule } from './source.ts';

/** SQL that makes a run, or sets what the trail must tell of it. */
const SETS =
  /\bUPDATE\s+carillon\.outbound_call_runs\b[^;]*?\bSET\b(?:(?!\bWHERE\b)[^;])*?\b(?:status|control_epoch)\s*=/i;
const MAKES = /\bINSERT\s+INTO\s+carillon\.outbound_call_runs\b/i;

function sqlOf(node: Node): string | undefined {
  if (node.type === 'Literal' && typeof node.value === 'string') return node.value;
  if (node.type !== 'TemplateLiteral' || !Array.isArray(node.quasis)) return undefined;
  return node.quasis
    .filter(isNode)
    .map(({ value }) => (typeof value === 'object' && value !== null && 'raw' in value ? String(value.raw) : ''))
    .join('');
}

const tells = (node: Node): boolean =>
  node.type === 'CallExpression' && ['trail', 'trailRun'].includes(nameOf(node.callee) ?? '');

const runTrail: Rule = {
  name: "whoever sets a run's status or control_epoch tells the trail",
  covers: isShipped,
  find(file) {
    const all = nodes(file);
    const changes = all.filter((node) => SETS.test(sqlOf(node) ?? '') || MAKES.test(sqlOf(node) ?? ''));
    const told = all.filter(tells).length;
    return changes
      .slice(told)
      .map((node) => ({ line: lineAt(file.text, node.start), why: 'a change of a run without a call of trail' }));
  },
  offenders: [
    {
      path: 'packages/engine/src/run/x.ts',
      text: "tx.send('UPDATE carillon.outbound_call_runs SET updated_at = now(), status = $2 WHERE business_id = $1');",
    },
    {
      path: 'packages/engine/src/run/x.ts',
      text: 'tx.send(`WITH a AS (SELECT 1) UPDATE carillon.outbound_call_runs r\n  SET control_epoch = r.control_epoch + 1 FROM a`);',
    },
    {
      path: 'packages/engine/src/run/x.ts',
      text: "tx.send('INSERT INTO carillon.outbound_call_runs (status) VALUES ($1)');",
    },
    {
      path: 'packages/engine/src/run/x.ts',
      text: "trail(tx, actor, one);\ntx.send('UPDATE carillon.outbound_call_runs SET status = $1');\ntx.send('UPDATE carillon.outbound_call_runs SET status = $2');",
    },
  ],
  innocents: [
    {
      path: 'packages/engine/src/run/x.ts',
      text: "tx.send('UPDATE carillon.outbound_call_runs SET status = $1 WHERE run_id = $2');\ntrailRun(tx, actor, one);",
    },
    {
      path: 'packages/engine/src/run/x.ts',
      text: "tx.send('UPDATE carillon.outbound_call_runs SET swept_seq = $1 WHERE status = $2');",
    },
    { path: 'packages/engine/src/run/x.ts', text: "tx.send('UPDATE carillon.outbound_call_jobs SET status = $1');" },
  ],
};

export const trailRules = [runTrail];
