import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const ENGINE = path.join(import.meta.dirname, '../../engine/src');

/** A function or a constant of the engine that stands at the left margin, with what it says. */
interface Writer {
  file: string;
  text: string;
  uses: Writer[];
}

/** Late evidence has a transaction of its own, which `call/record` opens: a verb by itself. */
const BY_ITSELF = 'call/late';
/** Checks of readiness go the ways of everybody, with canaries that call nobody. */
const CHECKS = 'probe/';

const TABLES = {
  runs: { name: 'outbound_call_runs', column: 'status' },
  jobs: { name: 'outbound_call_jobs', column: 'status' },
  open_attempts: { name: 'open_attempts', column: 'state' },
  attempts: { name: 'attempts', column: 'outcome' },
} as const;
export type Table = keyof typeof TABLES;

function readEngine(): Writer[] {
  const files = readdirSync(ENGINE, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const all = new Map<string, Writer>();
  const imported = new Map<string, Map<string, string>>();
  for (const name of files) {
    const text = readFileSync(path.join(ENGINE, name), 'utf8');
    const file = name.slice(0, -'.ts'.length);
    const names = new Map<string, string>();
    for (const [, list = '', from = ''] of text.matchAll(/^import (?:type )?\{([^}]*)\} from '(\.[^']*)\.ts';/gm))
      for (const one of list.split(',')) names.set(one.replace(/^\s*type /, '').trim(), path.join(file, '..', from));
    imported.set(file, names);
    const starts = [...text.matchAll(/^(?:export )?(?:(?:async )?function\*?|const) (\w+)/gm)];
    for (const [i, start] of starts.entries())
      all.set(`${file} ${start[1]}`, {
        file,
        // Comments use nothing, and quote what would look as if.
        text: text.slice(start.index, starts[i + 1]?.index).replaceAll(/^\s*(\/\*\*|\*|\/\/).*$/gm, ''),
        uses: [],
      });
  }
  for (const one of all.values())
    for (const name of new Set(one.text.match(/\b\w+\b/g))) {
      const used = all.get(`${imported.get(one.file)?.get(name) ?? one.file} ${name}`);
      const elsewhere = one.file !== BY_ITSELF && used?.file === BY_ITSELF;
      if (used && used !== one && !elsewhere && !opens(used)) one.uses.push(used);
    }
  return [...all.values()];
}

const opens = ({ text }: Writer): boolean => /\binBusiness\(/.test(text);

/** What a function does in its transaction, itself and through others. */
function reached(one: Writer, seen = new Set<Writer>()): Set<Writer> {
  if (!seen.has(one)) {
    seen.add(one);
    for (const used of one.uses) reached(used, seen);
  }
  return seen;
}

const STATEMENT = /`(?:[^`\\]|\\.)*`|'[^'\n]*'/g;

/** What a statement sets a table's column to: SQL, or the parameter or default that decides; null: it sets it not. */
function sets(statement: string, table: Table): string | null {
  const { name, column } = TABLES[table];
  const insert = new RegExp(`INSERT INTO carillon\\.${name} \\(([^)]*)\\)`).exec(statement);
  if (insert) return new RegExp(`\\b${column}\\b`).test(insert[1] ?? '') ? '$' : 'default';
  const update = new RegExp(`UPDATE carillon\\.${name}\\b.*? SET (.*?)(?: WHERE |$)`, 's').exec(
    statement.replaceAll(/\s+/g, ' '),
  );
  return new RegExp(`\\b${column} = ('\\w+'|\\S+?)(?:,| |$)`).exec(update?.[1] ?? '')?.[1] ?? null;
}

export interface Written {
  /** The file whose transaction it is. */
  file: string;
  /** The states that stand in a statement itself. */
  states: string[];
  /** Whether somewhere in that transaction this state is spelt: by itself, or as a counter that moves with it. */
  spells(state: string): boolean;
}

/** The files of the engine whose transactions write a table's state. */
export function whoWrites(table: Table): Written[] {
  const verbs = readEngine().filter((one) => (opens(one) || one.file === BY_ITSELF) && !one.file.startsWith(CHECKS));
  return [...Map.groupBy(verbs, ({ file }) => file)].flatMap(([file, own]) => {
    const texts = [...own.reduce((all, one) => reached(one, all), new Set<Writer>())].map(({ text }) => text);
    const set = texts.flatMap((text) => [...text.matchAll(STATEMENT)].flatMap(([sql]) => sets(sql, table) ?? []));
    if (set.length === 0) return [];
    const states = set
      .map((value) => (value === 'default' ? 'queued' : value.replaceAll("'", '')))
      .filter((state) => /^[a-z_]+$/.test(state));
    const spells = (state: string) =>
      states.includes(state) || texts.some((text) => new RegExp(`['.]${state}\\b`).test(text));
    return [{ file, states, spells }];
  });
}
