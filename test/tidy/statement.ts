/**
 * Reads a text of SQL as far as one question needs it: is each table of the business's tied to a parameter by its
 * business_id? Returns what is not, in words; nothing for a text without such tables.
 */
export function unboundTables(sql: string, isTenant: (table: string) => boolean): string[] {
  const { scopes, root } = nest(sql.replace(/--[^\n]*/g, ' ').replace(/'(?:[^']|'')*'/g, "''"));
  const found: string[] = [];
  const visit = (text: string, outer: ReadonlySet<string>): void => {
    for (const part of text.split(/\b(?:UNION(?:\s+ALL)?|INTERSECT|EXCEPT)\b|;/)) {
      const { bound, unbound } = bind(part, scopes, isTenant, outer);
      found.push(...unbound);
      for (const [, inner] of part.matchAll(SCOPE)) visit(scopes[Number(inner)] ?? '', new Set([...outer, ...bound]));
    }
  };
  visit(root, new Set());
  return found;
}

/** What stands in brackets, taken out and numbered: `(§3)`. */
const SCOPE = /\(§(\d+)\)/g;

function nest(sql: string): { scopes: string[]; root: string } {
  const scopes: string[] = [];
  let text = sql;
  for (let before = ''; text !== before; ) {
    before = text;
    text = text.replace(/\(([^()]*)\)/g, (_, inner: string) => {
      scopes.push(inner);
      return `<§${scopes.length - 1}>`;
    });
  }
  const opened = (part: string) => part.replace(/<§(\d+)>/g, '(§$1)');
  return { scopes: scopes.map(opened), root: opened(text) };
}

const NO_ALIAS =
  /^(AS|ON|USING|WHERE|SET|JOIN|LEFT|RIGHT|FULL|INNER|CROSS|NATURAL|ORDER|GROUP|HAVING|LIMIT|OFFSET|FOR|RETURNING|VALUES|SELECT|DEFAULT|TABLESAMPLE|WHEN|FROM|WINDOW|DO)$/i;
const TABLE = /\bcarillon\.(\w+)(?:\s+(?:AS\s+)?(\w+))?/gi;
const EQUAL = /(?:(\w+)\.)?business_id\s*=\s*(?:(\$\d+)|(?:(\w+)\.)?business_id)/g;

interface Reference {
  table: string;
  alias: string;
  /** Written to by INSERT, whose business stands among the values. */
  inserted: boolean;
  /** Joined with USING (business_id, …). */
  using: boolean;
}

function bind(
  part: string,
  scopes: readonly string[],
  isTenant: (table: string) => boolean,
  outer: ReadonlySet<string>,
) {
  const references = [...part.matchAll(TABLE)].map((match): Reference => {
    const [whole, table = '', word = ''] = match;
    const named = word !== '' && !NO_ALIAS.test(word);
    const behind = part.slice(match.index + whole.length - (named || word === '' ? 0 : word.length));
    const using = /^\s*USING\s*\(§(\d+)\)/i.exec(behind)?.[1];
    return {
      table,
      alias: named ? word : table,
      inserted:
        /\bINTO\s+$/i.test(part.slice(0, match.index)) && !/\bMERGE\s+INTO\s+$/i.test(part.slice(0, match.index)),
      using: using !== undefined && /\bbusiness_id\b/.test(scopes[Number(using)] ?? ''),
    };
  });
  const bound = boundNames(part, references, outer);
  const unbound = references
    .filter(({ table }) => isTenant(table))
    .filter((reference) =>
      reference.inserted ? !insertsBusiness(part, scopes, reference) : !bound.has(reference.alias),
    )
    .map(({ table, alias, inserted }) => {
      if (inserted) return `INSERT INTO ${table} does not begin with business_id and a parameter`;
      return `${table}${alias === table ? '' : ` ${alias}`} is tied to no parameter by its business_id`;
    });
  return { bound, unbound };
}

/** The names whose business_id equals a parameter, in one step or several. */
function boundNames(part: string, references: readonly Reference[], outer: ReadonlySet<string>): Set<string> {
  const bound = new Set(outer);
  const read = references.filter(({ inserted }) => !inserted);
  // Without a name in front, the column can only be that of the one table here.
  const sole = read.length === 1 ? read[0]?.alias : undefined;
  const equal = [...part.matchAll(EQUAL)].map(([, left = sole, parameter, right = sole]) => ({
    left,
    parameter,
    right,
  }));
  for (let before = -1; before !== bound.size; ) {
    before = bound.size;
    for (const { left, parameter, right } of equal) {
      if (left !== undefined && (parameter || (right !== undefined && right !== left && bound.has(right))))
        bound.add(left);
      if (!parameter && left !== undefined && right !== undefined && bound.has(left)) bound.add(right);
    }
    // JOIN … USING (business_id) ties all tables of the join to each other.
    const joined = read.filter(({ using }) => using);
    if (joined.length > 0 && (/\bbusiness_id\s*=\s*\$\d/.test(part) || read.some(({ alias }) => bound.has(alias))))
      for (const { alias } of [...joined, ...read.slice(0, 1)]) bound.add(alias);
  }
  return bound;
}

/** `(business_id, …)` with `$n`, or the business_id of a row that is ours, as the first value. */
function insertsBusiness(part: string, scopes: readonly string[], { table }: Reference): boolean {
  const into = new RegExp(`\\bINTO\\s+carillon\\.${table}\\b(?:\\s+AS)?(?:\\s+\\w+)?\\s*\\(§(\\d+)\\)`, 'i').exec(part);
  if (!into || !/^\s*business_id\b/.test(scopes[Number(into[1])] ?? '')) return false;
  const behind = part.slice(into.index + into[0].length);
  const values = /^\s*VALUES\s*\(§(\d+)\)/i.exec(behind);
  const first = values ? scopes[Number(values[1])] : /^\s*SELECT\s([^]*)/i.exec(behind)?.[1];
  return /^\s*(\$\d+|(\w+\.)?business_id)\b/.test(first ?? '');
}
