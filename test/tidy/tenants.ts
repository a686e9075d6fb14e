import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import {
  importsOf,
  isNode,
  isShipped,
  lineAt,
  nameOf,
  type Node,
  nodes,
  type Offence,
  offences,
  root,
  type Rule,
  type SourceFile,
} from './source.ts';
import { unboundTables } from './statement.ts';

/** Every table that the migrations make, and whether it has a business_id. */
const TABLES: ReadonlyMap<string, boolean> = new Map(
  readdirSync(path.join(root, 'packages/engine/migrations'))
    .map((file) => readFileSync(path.join(root, 'packages/engine/migrations', file), 'utf8'))
    .flatMap((sql) => [...sql.matchAll(/^CREATE TABLE IF NOT EXISTS carillon\.(\w+) \(\n(.*?)^\)/gms)])
    .map(([, table = '', columns = '']) => [table, /^\s+business_id\b/m.test(columns)] as const),
);
const isTenant = (table: string): boolean => TABLES.get(table) === true;
const TENANTS = [...TABLES.keys()].filter(isTenant);

/** The files that look for work across businesses, through the discovery login. */
const DISCOVERING: Readonly<Record<string, string>> = {
  'packages/auditor/src/businesses.ts': 'whom there is to audit',
  'packages/engine/src/adopt/businesses.ts': 'which business took over which of an older installation',
  'packages/engine/src/adopt/runs.ts': 'numbers that runs have already, of whatever business',
  'packages/engine/src/business/businesses.ts': 'whom a system administrator may enter',
  'packages/engine/src/business/security-report.ts': 'what happened at all walls, for system administrators',
  'packages/engine/src/call/tend.ts': 'attempts that nobody tends',
  'packages/engine/src/call/unwanted.ts': 'calls that are to be hung up',
  'packages/engine/src/probe/accounts.ts': 'whose accounts the readiness check tries',
  'packages/engine/src/probe/canary.ts': 'the business that the readiness check made for itself',
  'packages/engine/src/probe/recount.ts': 'runs at work that the readiness check counts again',
  'packages/engine/src/probe/server.ts': 'how much work there is, in figures alone',
  'packages/engine/src/probe/walls.ts': 'asks what its own login may do, and no table',
  'packages/engine/src/restore/accounts.ts': 'accounts whose carriers are to be asked after a restore',
  'packages/engine/src/restore/acknowledge.ts': 'what a restore has paused and halted, to let it go on',
  'packages/engine/src/restore/notice.ts': 'runs that a restore pauses',
  'packages/engine/src/run/end.ts': 'runs whose end has come',
  'packages/engine/src/run/lease.ts': 'runs that nobody works on',
  'packages/engine/src/run/sweep.ts': 'stopped runs whose rows are to follow',
  'packages/engine/src/db/check-login.ts': 'asks who is logged in, and no table',
};

/** The files that open connections of their own, and why the two doors will not do. */
const CONNECTING: Readonly<Record<string, string>> = {
  'packages/engine/src/db/database.ts': 'the doors themselves',
  'packages/engine/src/db/wake.ts': 'LISTEN needs a connection that stays, and reads no table',
  'packages/engine/src/db/migration-session.ts': 'the owner, for migrations',
  'packages/engine/src/adopt/source.ts': 'another database: an older installation, read only',
  'packages/engine/src/adopt/lock.ts': 'a lock that is held as long as an adoption takes, and reads no table',
  'packages/auditor/src/snapshot.ts': 'shares no code with what it judges; one read-only transaction of one business',
  'packages/cli/src/embedded/embedded.ts': 'the superuser of the embedded database, before there are other logins',
};

const list = (value: unknown): Node[] => (Array.isArray(value) ? value.filter(isNode) : []);

/** The texts that a file writes out, with the constants of the same file put in where they stand. */
function texts(file: SourceFile): { node: Node; text: string }[] {
  const constants = new Map<string, string>();
  for (const declaration of nodes(file).filter(({ type }) => type === 'VariableDeclarator')) {
    const name = nameOf(declaration.id);
    const text = isNode(declaration.init) ? textOf(declaration.init, constants) : undefined;
    if (name !== undefined && text !== undefined) constants.set(name, text);
  }
  return nodes(file).flatMap((node) => {
    const text = textOf(node, constants);
    return text === undefined || node.type === 'Identifier' ? [] : [{ node, text }];
  });
}

function textOf(node: Node, constants: ReadonlyMap<string, string>): string | undefined {
  if (node.type === 'Literal') return typeof node.value === 'string' ? node.value : undefined;
  if (node.type === 'Identifier') return constants.get(String(node.name));
  if (node.type !== 'TemplateLiteral') return undefined;
  const parts = list(node.expressions).map((part) => textOf(part, constants) ?? '');
  const cooked = list(node.quasis).map(({ value }) => (value as { cooked: string }).cooked);
  return cooked.map((text, index) => text + (parts[index] ?? '')).join('');
}

/** The nodes that are handed to a function of this name as its SQL. */
const handedTo = (file: SourceFile, name: string): Set<unknown> =>
  new Set(
    nodes(file)
      .filter((node) => node.type === 'CallExpression' && nameOf(node.callee) === name)
      .map((node) => list(node.arguments)[1]),
  );

export const namesBusiness: Rule = {
  name: 'each statement ties each table of a business to a parameter by its business_id',
  covers: isShipped,
  find: (file): Offence[] => {
    const discovered = handedTo(file, 'discover');
    return texts(file)
      .filter(({ node }) => !discovered.has(node))
      .flatMap(({ node, text }) =>
        unboundTables(text, isTenant).map((why) => ({ line: lineAt(file.text, node.start), why })),
      );
  },
  offenders: [
    'SELECT * FROM carillon.leads WHERE lead_id = $1',
    'SELECT * FROM carillon.leads l WHERE l.lead_id = $1 AND business_id = other.business_id',
    'SELECT 1 FROM carillon.leads l JOIN carillon.lists s ON s.list_id = $2 WHERE l.business_id = $1',
    'SELECT (SELECT count(*) FROM carillon.leads) FROM carillon.lists WHERE business_id = $1',
    'SELECT 1 FROM carillon.lists WHERE business_id = $1 UNION ALL SELECT 1 FROM carillon.leads',
    'UPDATE carillon.leads SET name = $2 WHERE lead_id = $1',
    'DELETE FROM carillon.job_schedule WHERE run_id = $1 AND seq = $2',
    'INSERT INTO carillon.lists (name, business_id) VALUES ($1, $2)',
    'INSERT INTO carillon.lists (business_id, name) SELECT 7, $1',
    'SELECT 1 FROM carillon.leads WHERE business_id = 7',
    "SELECT 1 FROM carillon.leads WHERE name = 'business_id = $1'",
    'SELECT 1 FROM carillon.leads -- business_id = $1',
  ].map((sql) => ({ path: 'packages/engine/src/x.ts', text: `const q = ${JSON.stringify(sql)};` })),
  innocents: [
    'SELECT * FROM carillon.leads WHERE business_id = $1 AND lead_id = $2',
    'SELECT 1 FROM carillon.leads l JOIN carillon.lists s ON s.business_id = l.business_id WHERE l.business_id = $1',
    'SELECT 1 FROM carillon.lists s JOIN carillon.leads l USING (business_id, list_id) WHERE business_id = $1',
    'SELECT 1 FROM x, LATERAL (SELECT 1 FROM carillon.leads WHERE business_id = $1) l',
    'WITH a AS (DELETE FROM carillon.leads o USING unnest($2) e WHERE o.business_id = $1 RETURNING o.*) SELECT 1 FROM a',
    'INSERT INTO carillon.lists AS l (business_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING',
    'INSERT INTO carillon.leads (business_id, phone) SELECT $1, new.phone FROM unnest($2) new',
    'SELECT count(*) FROM carillon.workers',
    'The table carillon.nobody is not there',
  ].map((sql) => ({ path: 'packages/engine/src/x.ts', text: `const q = ${JSON.stringify(sql)};` })),
};

const TIE = /(?:\w+\.)?business_id\s*=\s*(?:\$\d|\w+\.business_id)/g;

/** Each tie of a table to its business in a file's statements, as the file would be without it. */
export function withoutEachTie(file: SourceFile): (SourceFile & { tie: string })[] {
  if (!namesBusiness.covers(file.path)) return [];
  const discovered = [...handedTo(file, 'discover')].filter(isNode);
  return [...file.text.matchAll(TIE)]
    .filter(({ index }) => !discovered.some(({ start, end }) => start <= index && index < end))
    .map(({ index, 0: tie }) => ({
      path: file.path,
      text: `${file.text.slice(0, index)}true${file.text.slice(index + tie.length)}`,
      tie: `${file.path}:${lineAt(file.text, index)}: ${tie}`,
    }));
}

const BARE = new RegExp(`\\b(?:FROM|JOIN|INTO|UPDATE|USING)\\s+(${[...TABLES.keys()].join('|')})\\b`, 'g');

const namesSchema: Rule = {
  name: 'each statement names a table with its schema, by which the rules about tables find it',
  covers: (file) => isShipped(file) && !file.startsWith('packages/engine/src/adopt/'),
  find: (file): Offence[] =>
    texts(file).flatMap(({ node, text }) =>
      [...text.matchAll(BARE)]
        .filter(([, table]) => !new RegExp(`\\b${table} AS\\b`).test(text))
        .map(([, table]) => ({ line: lineAt(file.text, node.start), why: `${table}: write carillon.${table}` })),
    ),
  offenders: [{ path: 'packages/engine/src/x.ts', text: "const q = 'SELECT phone FROM leads';" }],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: "const q = 'WITH leads AS (SELECT 1) SELECT 1 FROM leads';" },
    { path: 'packages/engine/src/x.ts', text: "const said = 'a number from leads that we know';" },
  ],
};

const discovers: Rule = {
  name: 'only the listed files look across businesses',
  covers: (file) => isShipped(file) && DISCOVERING[file] === undefined && file !== 'packages/engine/src/db/database.ts',
  find: (file) =>
    offences(file, (node) =>
      node.type === 'CallExpression' && nameOf(node.callee) === 'discover'
        ? 'discover(): list the file, with why'
        : undefined,
    ),
  offenders: [{ path: 'packages/engine/src/x.ts', text: "await discover(db, 'SELECT 1');" }],
  innocents: [{ path: 'packages/engine/src/run/sweep.ts', text: "await discover(db, 'SELECT 1');" }],
};

const global: Rule = {
  name: 'queryGlobal asks for no table of a business',
  covers: (file) => isShipped(file) && file.startsWith('packages/engine/'),
  find: (file): Offence[] => {
    const asked = handedTo(file, 'queryGlobal');
    return texts(file)
      .filter(({ node }) => asked.has(node))
      .flatMap(({ node, text }) =>
        TENANTS.filter((table) => new RegExp(`\\bcarillon\\.${table}\\b(?!')`).test(text.replace(/'[^']*'/g, ''))).map(
          (table) => ({ line: lineAt(file.text, node.start), why: `${table} belongs to businesses: inBusiness` }),
        ),
      );
  },
  offenders: [
    {
      path: 'packages/engine/src/x.ts',
      text: "await queryGlobal(db, 'SELECT 1 FROM carillon.leads WHERE business_id = $1');",
    },
  ],
  innocents: [{ path: 'packages/engine/src/x.ts', text: "await queryGlobal(db, 'SELECT 1 FROM carillon.workers');" }],
};

const TRANSACTION =
  /^\s*(BEGIN(\s+(TRANSACTION|WORK|ISOLATION|READ)\b|\s*;|\s*$)|START\s+TRANSACTION)|\bSET\s+(LOCAL\s+|SESSION\s+)?carillon\.|set_config\(\s*'carillon\.|\bSET\s+(LOCAL\s+)?(ROLE|SESSION\s+AUTHORIZATION|row_security)\b/;
/** SQLite, which locks a file with it. */
const NOT_POSTGRES = ['packages/cli/src/embedded/locks.ts'];

const connects: Rule = {
  name: 'only the listed files open a connection or a transaction, or set a business',
  covers: (file) => isShipped(file) && CONNECTING[file] === undefined && !NOT_POSTGRES.includes(file),
  find: (file) => [
    ...offences(file, (node) => {
      const made = node.type === 'NewExpression' ? nameOf(node.callee) : undefined;
      return made === 'Pool' || made === 'Client'
        ? `new ${made}: come in by inBusiness, or list the file with why`
        : undefined;
    }),
    ...texts(file)
      .filter(({ text }) => TRANSACTION.test(text))
      .map(({ node }) => ({ line: lineAt(file.text, node.start), why: 'a transaction of its own' })),
  ],
  offenders: [
    { path: 'packages/api/src/x.ts', text: 'const pool = new pg.Pool({ connectionString: url });' },
    { path: 'packages/worker/src/x.ts', text: 'const client = new Client(url);' },
    { path: 'packages/engine/src/x.ts', text: "await query('BEGIN');" },
    { path: 'packages/engine/src/x.ts', text: "await query('SET LOCAL carillon.business_id = 7');" },
    { path: 'packages/engine/src/x.ts', text: `await query("SELECT set_config('carillon.business_id', $1, true)");` },
    { path: 'packages/engine/src/x.ts', text: "await query('SET ROLE owner');" },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: "const said = 'Begin with a list'; const t = 'current_setting(x)';" },
    { path: 'packages/engine/src/db/wake.ts', text: 'const client = new pg.Client({});' },
  ],
};

const DOORS = ['inBusiness', 'queryGlobal', 'discover'];

const frontDoor: Rule = {
  name: 'the engine hands out no door to its tables: other packages call its functions',
  covers: (file) => file === 'packages/engine/src/index.ts',
  find: (file) => [
    ...offences(file, (node) => {
      const name = node.type === 'ExportSpecifier' ? nameOf(node.local) : undefined;
      return DOORS.includes(name ?? '') ? `${name} stays inside` : undefined;
    }),
    ...importsOf(file)
      .filter(({ specifier, names }) => specifier === './db/database.ts' && names.length === 0)
      .map(({ line }) => ({ line, why: 'export * of database.ts would hand out its doors' })),
  ],
  offenders: [
    { path: 'packages/engine/src/index.ts', text: "export { inBusiness } from './db/database.ts';" },
    { path: 'packages/engine/src/index.ts', text: "export * from './db/database.ts';" },
  ],
  innocents: [
    { path: 'packages/engine/src/index.ts', text: "export { openDatabase, type Database } from './db/database.ts';" },
  ],
};

/** An exception that is none any more must go. */
export const TENANT_EXCEPTIONS = [...Object.keys(DISCOVERING), ...Object.keys(CONNECTING), ...NOT_POSTGRES];

export const tenantRules = [namesBusiness, namesSchema, discovers, global, connects, frontDoor];
