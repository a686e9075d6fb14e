/** One statement of an SQL file, without its semicolon, and the line (from 1) on which its first word stands. */
export interface SqlStatement {
  text: string;
  line: number;
}

/** A file that ends inside a quote or a comment. `line` is where that one began. */
export class SqlSyntaxError extends Error {
  readonly line: number;
  constructor(message: string, line: number) {
    super(message);
    this.line = line;
  }
}

const WORD = /[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y;
const DOLLAR_TAG = /\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$/y;
const SPACE = /\s+/y;

/**
 * Splits SQL at the semicolons that end statements: not those in '…', E'…', "…", $tag$…$tag$, comments (which nest),
 * parentheses (CREATE RULE) or BEGIN ATOMIC … END (a function's body). Comments before a statement are dropped, those
 * inside it stay. Follows PostgreSQL's own scanner with standard_conforming_strings on.
 */
export function splitStatements(sql: string): SqlStatement[] {
  const statements: SqlStatement[] = [];
  let start = -1;
  let depth = 0;
  let words: string[] = [];
  const finish = (end: number) => {
    if (start >= 0) statements.push({ text: sql.slice(start, end).trimEnd(), line: lineAt(sql, start) });
    start = -1;
    depth = 0;
    words = [];
  };
  for (let at = 0; at < sql.length; ) {
    const skipped = skipBlank(sql, at);
    if (skipped > at) {
      at = skipped;
      continue;
    }
    const char = sql.charAt(at);
    if (char === ';' && depth === 0) {
      finish(at);
      at++;
      continue;
    }
    if (start < 0) start = at;
    const word = match(WORD, sql, at);
    if (word) {
      depth += nesting(word.toLowerCase(), words);
      words.push(word.toLowerCase());
    } else if (char === '(') depth++;
    else if (char === ')') depth = Math.max(0, depth - 1);
    at = tokenEnd(sql, at, word);
  }
  finish(sql.length);
  return statements;
}

/** How a word changes the depth inside the body of an SQL function: BEGIN ATOMIC and CASE open, END closes. */
function nesting(word: string, before: readonly string[]): number {
  const inRoutine = before[0] === 'create' && before.slice(1, 4).some((w) => w === 'function' || w === 'procedure');
  if (!inRoutine) return 0;
  if (word === 'atomic') return before.at(-1) === 'begin' ? 1 : 0;
  const inBody = before.includes('atomic');
  if (word === 'case') return inBody ? 1 : 0;
  return word === 'end' && inBody ? -1 : 0;
}

function tokenEnd(sql: string, at: number, word: string | undefined): number {
  const char = sql.charAt(at);
  // A word swallows the dollars in it, so that foo$1$ opens no quote; and E'…' is the one string with backslashes.
  if (word) return word.toLowerCase() === 'e' && sql[at + 1] === "'" ? quoted(sql, at + 1, true) : at + word.length;
  if (char === "'") return quoted(sql, at, false);
  if (char === '"') return quoted(sql, at, false);
  const tag = match(DOLLAR_TAG, sql, at);
  if (!tag) return at + (match(/\d[\w$.]*/y, sql, at)?.length ?? 1);
  const close = sql.indexOf(tag, at + tag.length);
  if (close < 0) throw new SqlSyntaxError(`the quote ${tag} is never closed`, lineAt(sql, at));
  return close + tag.length;
}

function quoted(sql: string, at: number, backslashes: boolean): number {
  const quote = sql.charAt(at);
  for (let i = at + 1; i < sql.length; i++) {
    if (backslashes && sql[i] === '\\') i++;
    else if (sql[i] === quote) {
      // A doubled quote is one inside the string.
      if (sql[i + 1] !== quote) return i + 1;
      i++;
    }
  }
  throw new SqlSyntaxError(`the quote ${quote} is never closed`, lineAt(sql, at));
}

function skipBlank(sql: string, at: number): number {
  const space = match(SPACE, sql, at);
  if (space) return at + space.length;
  if (sql.startsWith('--', at)) {
    const end = sql.indexOf('\n', at);
    return end < 0 ? sql.length : end + 1;
  }
  if (!sql.startsWith('/*', at)) return at;
  let open = 1;
  for (let i = at + 2; i < sql.length; i++) {
    if (sql.startsWith('/*', i)) {
      open++;
      i++;
    } else if (sql.startsWith('*/', i)) {
      i++;
      if (--open === 0) return i + 1;
    }
  }
  throw new SqlSyntaxError('the comment /* is never closed', lineAt(sql, at));
}

function match(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

function lineAt(sql: string, at: number): number {
  let line = 1;
  for (let i = sql.indexOf('\n'); i >= 0 && i < at; i = sql.indexOf('\n', i + 1)) line++;
  return line;
}
