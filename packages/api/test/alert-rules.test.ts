import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openDatabase } from '@carillon/engine';
import { parser } from '@prometheus-io/lezer-promql';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { startMetricsServer } from '../src/index.ts';
import { CHECKLIST, FIRING, HEALTHY } from './support/alerts.ts';
import { createFixture, type Fixture } from './support/api.ts';

const root = path.join(import.meta.dirname, '../../..');
const FILE = path.join(root, 'deploy/prometheus/carillon.rules.yml');

const Rule = z.strictObject({
  alert: z.string().regex(/^Carillon[A-Z][A-Za-z]+$/),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['critical', 'warning', 'info']) }),
  annotations: z.strictObject({ line: z.string(), summary: z.string() }),
});
type Rule = z.infer<typeof Rule>;
const Rules = z.strictObject({ groups: z.array(z.strictObject({ name: z.string(), rules: z.array(Rule) })) });

let rules: Rule[];
let fixture: Fixture;
/** What a real process serves: the API's, and a worker's. */
let served: { api: string; worker: string };

beforeAll(async () => {
  rules = Rules.parse(parse(await readFile(FILE, 'utf8'))).groups.flatMap((group) => group.rules);
  fixture = await createFixture();
  const db = openDatabase({ app_url: fixture.appUrl });
  const worker = await startMetricsServer({ db, host: '127.0.0.1', port: 0 });
  served = { api: (await fixture.ask(null, 'GET', '/metrics')).text, worker: await (await fetch(worker.url)).text() };
  await worker.close();
  await db.close();
});
afterAll(() => fixture.close());

/** The metrics that an expression names, and where it can't be read. */
function readExpression(expr: string): { metrics: string[]; errors: string[] } {
  const metrics: string[] = [];
  const errors: string[] = [];
  parser.parse(expr).iterate({
    enter(node) {
      if (node.type.isError) errors.push(`at ${node.from}: ${expr.slice(node.from, node.from + 20)}`);
      if (node.name === 'Identifier') metrics.push(expr.slice(node.from, node.to));
    },
  });
  return { metrics, errors };
}

const declaredIn = (text: string) => new Set([...text.matchAll(/^# TYPE (\S+) \S+$/gm)].map(([, name]) => name));
/** A histogram is declared once and has several series. */
const bare = (metric: string) => metric.replace(/_(bucket|count|sum)$/, '');

describe('the alert rules', () => {
  it('are PromQL', () => {
    expect(rules.length).toBeGreaterThan(20);
    for (const { alert, expr } of rules) expect(readExpression(expr).errors, alert).toEqual([]);
    // The parser would say so.
    expect(readExpression('max(carillon_workers_alive) == ').errors).not.toEqual([]);
  });

  it('name metrics that a real process serves, and nothing else', () => {
    const declared = declaredIn(served.api);
    for (const { alert, expr } of rules) {
      const { metrics } = readExpression(expr);
      expect(metrics.length, alert).toBeGreaterThan(0);
      for (const metric of metrics) expect([...declared], alert).toContain(bare(metric));
    }
  });

  it('are one or more for each line of the checklists, each with its entry in the guide', async () => {
    expect(CHECKLIST.filter((line) => !rules.some(({ annotations }) => annotations.line === line))).toEqual([]);
    const guide = await readFile(path.join(root, 'docs/readiness.md'), 'utf8');
    expect(rules.filter(({ alert }) => !guide.includes(`\`${alert}\``)).map(({ alert }) => alert)).toEqual([]);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  });

  it('each have a case in which they fire', () => {
    expect(Object.keys(FIRING).sort()).toEqual(rules.map(({ alert }) => alert).sort());
  });

  const promtool = spawnSync('promtool', ['--version'], { encoding: 'utf8' });
  it.runIf(promtool.status === 0)(
    'fire when they should, and not when all is well, says promtool',
    async () => {
      const directory = await mkdtemp(path.join(tmpdir(), 'carillon-rules-'));
      onTestFinished(() => rm(directory, { recursive: true, force: true }));
      const file = path.join(directory, 'test.yml');
      await writeFile(file, stringify({ rule_files: [FILE], evaluation_interval: '5m', tests: promtoolTests() }));
      const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' });
      expect(status, `${stdout}${stderr}`).toBe(0);
    },
    120_000,
  );
});

function promtoolTests(): object[] {
  const series = (values: Readonly<Record<string, string | null>>) =>
    Object.entries(values).flatMap(([name, value]) => (value === null ? [] : [{ series: name, values: value }]));
  const asked = (expr: string, exp_samples: object[]) => [{ expr, eval_time: '2h', exp_samples }];
  return [
    { interval: '1m', input_series: series(HEALTHY), promql_expr_test: asked('count(ALERTS)', []) },
    ...Object.entries(FIRING).map(([alert, changed]) => ({
      name: alert,
      interval: '1m',
      input_series: series({ ...HEALTHY, ...changed }),
      promql_expr_test: asked(`count(ALERTS{alertname="${alert}",alertstate="firing"})`, [{ labels: '{}', value: 1 }]),
    })),
  ];
}

describe('the metrics', () => {
  it('tell of a healthy database what holds, in figures', () => {
    const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(served.api)?.[1] ?? Number.NaN);
    const figures = Object.fromEntries(
      [
        'database_up',
        'migrations_current',
        'unique_run_lead_valid',
        'walls_intact',
        'cursor_drift_runs',
        'workers_alive',
      ].map((name) => [name, value(`carillon_${name}`)]),
    );
    expect(figures).toEqual({
      database_up: 1,
      migrations_current: 1,
      unique_run_lead_valid: 1,
      walls_intact: 1,
      cursor_drift_runs: 0,
      workers_alive: 0,
    });
    // Nobody has called back yet, so there is no age.
    expect(served.api).not.toMatch(/^carillon_last_callback_age_seconds /m);
  });

  it('of a worker are its own, and none of the installation', () => {
    const declared = [...declaredIn(served.worker)];
    expect(declared).toEqual(
      expect.arrayContaining([
        'carillon_guard_errors_total',
        'carillon_transaction_retries_total',
        'carillon_lost_wakes_total',
        'carillon_database_connections',
      ]),
    );
    expect(declared).not.toContain('carillon_needs_review');
  });

  it('say that the database is down when it does not answer, and keep quiet about the rest', async () => {
    const away = await createFixture();
    await away.drop();
    const { text } = await away.ask(null, 'GET', '/metrics');
    expect(text).toMatch(/^carillon_database_up 0$/m);
    expect(text).not.toMatch(/^carillon_workers_alive /m);
    await away.close();
  });
});
