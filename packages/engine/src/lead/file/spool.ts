import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CarillonError } from '@carillon/contract';

/** The disk, the quota, or what one process may write. */
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Opens a temporary file that has no name any more: whatever becomes of this process, the system takes the file away
 * with it. To be closed by the caller. Throws `import_no_space`.
 */
export async function openTemporary(): Promise<FileHandle> {
  const name = path.join(tmpdir(), `carillon-import-${randomUUID()}`);
  try {
    const file = await open(name, 'wx+', 0o600);
    await unlink(name);
    return file;
  } catch (error) {
    throw noSpace(error);
  }
}

/** Writes a stream into a temporary file; `alive` is called for each chunk. Throws `import_no_space`, and what they throw. */
export async function spool(
  source: AsyncIterable<Buffer>,
  file: FileHandle,
  alive: () => Promise<void>,
): Promise<void> {
  for await (const chunk of source) {
    await writeAll(file, chunk);
    await alive();
  }
}

/** Throws `import_no_space`. */
export async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  try {
    for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done)).bytesWritten;
  } catch (error) {
    throw noSpace(error);
  }
}

function noSpace(error: unknown): unknown {
  const full = error instanceof Error && 'code' in error && NO_SPACE.has(String(error.code));
  return full ? new CarillonError('import_no_space', {}, { cause: error }) : error;
}
