import {
  isCode,
  isNode,
  isTest,
  lineAt,
  nameOf,
  nodes,
  type Node,
  type Offence,
  type Rule,
  type SourceFile,
} from './source.ts';

/** The files that must put something into SQL text, and why a parameter will not do there. */
export const MAY_BUILD_SQL: Record<string, string> = {
  'packages/engine/src/db/access.ts': 'roles, their settings and policies take no parameters; all is escaped by pg',
  'packages/engine/src/db/database.ts': 'SET takes no parameters; the business id is a checked integer',
  'packages/auditor/src/snapshot.ts': 'SET takes no parameters; the business id is a checked integer',
  'sim/server.ts': 'databases, roles and functions take no parameters; every name is its own, escaped by pg',
};

const UPPER =
  /^(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TRUNCATE|COPY|LOCK|SET|RESET|BEGIN|CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT|ANALYZE|VACUUM|NOTIFY|LISTEN|EXPLAIN|CALL|DO)\s/;
const LOWER =
  /^(select\s.+\sfrom|insert\s+into|update\s.+\sset|delete\s+from|create\s+(table|index|role|database)|with\s.+\sas)\s/s;

function beginsLikeSql(text: string): boolean {
  const statement = text.replace(/^(\s|--[^\n]*\n|\/\*.*?\*\/)+/s, '');
  return UPPER.test(statement) || LOWER.test(statement);
}

const list = (value: unknown): Node[] => (Array.isArray(value) ? value.filter(isNode) : []);

/** Names bound by `const` to text that is written out in the same file: no input can reach those. */
function constantTexts(all: Node[]): Set<string> {
  const constants = new Set<string>();
  for (const declaration of all) {
    if (declaration.type !== 'VariableDeclaration' || declaration.kind !== 'const') continue;
    for (const { id, init } of list(declaration.declarations)) {
      const name = nameOf(id);
      if (name !== undefined && isNode(init) && isConstantText(init, constants)) constants.add(name);
    }
  }
  return constants;
}

function isConstantText(node: Node, constants: ReadonlySet<string>): boolean {
  if (node.type === 'Literal') return typeof node.value === 'string' || typeof node.value === 'number';
  if (node.type === 'Identifier') return constants.has(String(node.name));
  if (node.type === 'TemplateLiteral') return list(node.expressions).every((part) => isConstantText(part, constants));
  if (node.type === 'TSAsExpression' && isNode(node.expression)) return isConstantText(node.expression, constants);
  if (node.type !== 'BinaryExpression' || node.operator !== '+' || !isNode(node.left) || !isNode(node.right))
    return false;
  return isConstantText(node.left, constants) && isConstantText(node.right, constants);
}

/** The text that a string begins with, as written: `''` when it begins with something computed. */
function head(node: Node): string {
  if (node.type === 'Literal') return typeof node.value === 'string' ? node.value : '';
  if (node.type === 'TemplateLiteral') return templateHead(list(node.quasis)[0], list(node.expressions).length > 0);
  return node.type === 'BinaryExpression' && isNode(node.left) ? head(node.left) : '';
}

function templateHead(first: Node | undefined, goesOn: boolean): string {
  const value = first?.value;
  const text = typeof value === 'object' && value !== null && 'cooked' in value ? String(value.cooked) : '';
  // What follows is computed: `SELECT${…}` begins like SQL as well.
  return goesOn ? `${text} ` : text;
}

const isText = (node: Node): boolean =>
  node.type === 'TemplateLiteral' || (node.type === 'BinaryExpression' && node.operator === '+');

function findBuilt(all: Node[]): Node[] {
  const constants = constantTexts(all);
  const computed = (node: Node): boolean => isText(node) && !isConstantText(node, constants);
  const tagged = new Set(all.filter((node) => node.type === 'TaggedTemplateExpression').map((node) => node.quasi));
  const queried = all
    .filter((node) => node.type === 'CallExpression' && nameOf(node.callee) === 'query')
    .flatMap((node) => list(node.arguments).slice(0, 1));
  const texts = all.filter((node) => computed(node) && !tagged.has(node) && beginsLikeSql(head(node)));
  const found = new Set([...texts, ...queried.filter(computed)]);
  // `'SELECT ' + a + b` is one text, though its left half is a node as well.
  for (const node of found) if (isNode(node.left)) found.delete(node.left);
  return [...found];
}

const builtSql: Rule = {
  name: 'no SQL is put together from strings: values are parameters',
  covers: (file) => isCode(file) && !isTest(file) && MAY_BUILD_SQL[file] === undefined,
  find: (file): Offence[] =>
    findBuilt(nodes(file)).map((node) => ({
      line: lineAt(file.text, node.start),
      why: 'SQL put together from strings: use $1, or a constant text in this file',
    })),
  offenders: [
    { path: 'packages/engine/src/x.ts', text: 'const q = `SELECT * FROM leads WHERE phone = ${phone}`;' },
    { path: 'packages/engine/src/x.ts', text: 'const q = `\n  -- why\n  UPDATE runs SET ${column} = 1`;' },
    { path: 'packages/engine/src/x.ts', text: "const q = 'DELETE FROM ' + table;" },
    { path: 'packages/engine/src/x.ts', text: "const q = 'insert into leads values (' + list + ')';" },
    { path: 'packages/engine/src/x.ts', text: 'await client.query(`${verb} everything`);' },
    { path: 'packages/engine/src/x.ts', text: 'const T = table(); const q = `CREATE TABLE ${T} ()`;' },
    { path: 'bench/x.ts', text: 'const q = `WITH a AS (${inner}) SELECT 1`;' },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: "const COLUMNS = 'a, b'; const q = `SELECT ${COLUMNS} FROM runs`;" },
    { path: 'packages/engine/src/x.ts', text: "client.query('SELECT 1 FROM runs WHERE run_id = $1', [run_id]);" },
    { path: 'packages/engine/src/x.ts', text: 'const said = `Select a list, then ${action}`;' },
    { path: 'packages/engine/src/x.ts', text: 'const q = sql`SELECT * FROM leads WHERE phone = ${phone}`;' },
  ],
};

/** An exception that is none any more must go, or it covers what is written there next. */
export const buildsSql = (file: SourceFile): boolean => findBuilt(nodes(file)).length > 0;

export const sqlRules = [builtSql];
