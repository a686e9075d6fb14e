import path from 'node:path';
import { stripVTControlCharacters, styleText } from 'node:util';
import type { WriteStream } from 'node:tty';
import cliProgress from 'cli-progress';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** What a moving display shows at one moment. */
export interface Frame {
  title: string;
  /** 0 to 1. */
  progress: number;
  /** Right of the bar. */
  figures: string;
  /** Lines below it, each in parts of falling importance: those that the terminal has no room for are left out. */
  below: readonly (readonly string[])[];
}

/** Where a command speaks: to a person on a terminal, in plain lines to a file, or in one JSON object to a program. */
export interface Output {
  readonly json: boolean;
  /** True where a display may move. */
  readonly moves: boolean;
  /** A line for people; on standard error where --json takes standard output. */
  say(text: string): void;
  /** A line on standard error. */
  warn(text: string): void;
  /** The one JSON object of --json; without that, nothing. */
  result(value: object): void;
  /** Coloured where that is seen and wanted (NO_COLOR). */
  paint(style: Style, text: string): string;
  /** Redraws `frame` ten times a second, with lines that are said meanwhile above it, until the answer is called. */
  display(frame: () => Frame): () => void;
}

export type Stream = NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns'>>;

export interface OutputOptions {
  stdout: Stream;
  stderr: Stream;
  json: boolean;
  /** A terminal that can't move its cursor. */
  dumb?: boolean;
}

export function createOutput({ stdout, stderr, json, dumb = false }: OutputOptions): Output {
  const people = json ? stderr : stdout;
  const moves = people.isTTY === true && !dumb;
  let above: ((text: string) => void) | undefined;
  const write = (stream: Stream, text: string) => {
    // On one terminal every line has to go above the display, whichever stream it belongs to.
    if (above && stream.isTTY) above(text);
    else stream.write(`${text}\n`);
  };
  return {
    json,
    moves,
    say: (text) => write(people, text),
    warn: (text) => write(stderr, text),
    result(value) {
      if (json) stdout.write(`${JSON.stringify(value)}\n`);
    },
    paint: (style, text) => styleText(style, text, { stream: people as NodeJS.WriteStream }),
    display(frame) {
      if (!moves) return () => {};
      const { log, stop } = startDisplay(people, frame);
      above = log;
      return () => {
        above = undefined;
        stop();
      };
    },
  };
}

const FRAMES_PER_S = 10;
const BAR_COLUMNS_MAX = 40;
const BAR_COLUMNS_MIN = 8;
const ERASE_REST_OF_LINE = '\u001B[K';

function startDisplay(stream: Stream, frame: () => Frame): { log(text: string): void; stop(): void } {
  const bars = new cliProgress.MultiBar({
    stream,
    fps: FRAMES_PER_S,
    hideCursor: true,
    clearOnComplete: true,
    barsize: BAR_COLUMNS_MAX,
    barCompleteChar: '█',
    barIncompleteChar: '░',
  });
  bars.create(1, 0, undefined, {
    format: (options, { maxWidth }) => {
      const { title, progress, figures } = frame();
      const room = maxWidth - widthOf(title) - widthOf(figures) - 7;
      const barsize = Math.min(BAR_COLUMNS_MAX, room);
      const bar = cliProgress.Format.BarFormat(Math.min(Math.max(progress, 0), 1), { ...options, barsize });
      return barsize < BAR_COLUMNS_MIN ? fitParts([title, figures], maxWidth) : `  ${title}  ${bar}  ${figures}`;
    },
  });
  for (const [line] of frame().below.entries())
    bars.create(1, 0, undefined, { format: (_, { maxWidth }) => fitParts(frame().below[line] ?? [], maxWidth) });
  // However the process ends, the cursor must come back.
  const stop = () => {
    process.off('exit', stop);
    // A last drawing, for what was logged since the one before.
    bars.update();
    bars.stop();
  };
  process.on('exit', stop);
  return { log: (text) => bars.log(text.replace(/\n|$/g, `${ERASE_REST_OF_LINE}\n`)), stop };
}

const SEPARATOR = ' · ';

/** As many parts as fit into `columns`, from the first on. */
export function fitParts(parts: readonly string[], columns: number): string {
  let line = '';
  for (const part of parts) {
    const longer = line === '' ? `  ${part}` : `${line}${SEPARATOR}${part}`;
    if (widthOf(longer) >= columns) break;
    line = longer;
  }
  return line;
}

export function widthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Columns of text, each as wide as its widest cell; the last one is not padded. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, widthOf(cell));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)),
      )
      .join('  '),
  );
}

/** `1,234,567`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 lead`, `2 leads`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(ms: number): string {
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  const s = Math.round(ms / 1_000);
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
}

/** A path as a person would type it here: relative when it is below the current directory. */
export function shortPath(file: string): string {
  const relative = path.relative('.', file);
  return relative.startsWith('..') || path.isAbsolute(relative) ? path.resolve(file) : relative;
}
