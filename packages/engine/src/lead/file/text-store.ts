import { readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { CarillonError } from '@carillon/contract';
import type { ImportLimits } from '../limits.ts';
import { openTemporary, writeAll } from './spool.ts';

const BLOCK_BYTES = 65_536;
const BLOCKS = 128;
const WRITE_BYTES = 1_048_576;

/**
 * The texts that a workbook's cells refer to by number: millions, where every name differs. They lie in a temporary
 * file; memory holds four bytes for each and a few megabytes of what was read last. Written once, then read.
 */
export interface TextStore {
  add(text: string): Promise<void>;
  /** After the last text, before the first reading. */
  finish(): Promise<void>;
  /** The text of this number, from 0; undefined where there is none. */
  get(index: number): string | undefined;
  close(): Promise<void>;
}

/** Throws `import_no_space`; adding throws `import_damaged` above `import_strings`. */
export async function createTextStore(limits: ImportLimits): Promise<TextStore> {
  const file = await openTemporary();
  let ends = new Uint32Array(1_024);
  let count = 0;
  let bytes = 0;
  let waiting: Buffer[] = [];
  let waiting_bytes = 0;
  const flush = async () => {
    await writeAll(file, Buffer.concat(waiting));
    waiting = [];
    waiting_bytes = 0;
  };
  const read = createReader(file);
  return {
    async add(text) {
      if (count >= limits.import_strings)
        throw new CarillonError('import_damaged', { problem: `it has more than ${limits.import_strings} texts` });
      if (count === ends.length) {
        const longer = new Uint32Array(ends.length * 2);
        longer.set(ends);
        ends = longer;
      }
      const written = Buffer.from(text);
      bytes += written.length;
      ends[count++] = bytes;
      waiting.push(written);
      waiting_bytes += written.length;
      if (waiting_bytes >= WRITE_BYTES || waiting.length >= WRITE_BYTES / 64) await flush();
    },
    finish: flush,
    get(index) {
      if (!Number.isInteger(index) || index < 0 || index >= count) return undefined;
      return read(index === 0 ? 0 : (ends[index - 1] ?? 0), ends[index] ?? 0);
    },
    close: () => file.close(),
  };
}

/** Reads texts by their place. The blocks that were used last stay in memory: texts are mostly asked for in order. */
function createReader(file: FileHandle): (start: number, end: number) => string {
  const blocks = new Map<number, Buffer>();
  const blockAt = (number: number): Buffer => {
    const known = blocks.get(number);
    if (known) blocks.delete(number);
    const block = known ?? readAt(file, number * BLOCK_BYTES, BLOCK_BYTES);
    blocks.set(number, block);
    const [oldest] = blocks.keys();
    if (blocks.size > BLOCKS && oldest !== undefined) blocks.delete(oldest);
    return block;
  };
  return (start, end) => {
    const number = Math.floor(start / BLOCK_BYTES);
    const from = start - number * BLOCK_BYTES;
    if (from + end - start <= BLOCK_BYTES) return blockAt(number).toString('utf8', from, from + end - start);
    return readAt(file, start, end - start).toString();
  };
}

function readAt(file: FileHandle, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  for (let read = -1; done < length && read !== 0; done += read)
    read = readSync(file.fd, buffer, done, length - done, position + done);
  return buffer.subarray(0, done);
}
