import type { FileHandle } from 'node:fs/promises';
import { CarillonError } from '@carillon/contract';
import yauzl from 'yauzl';
import type { ImportLimits } from '../limits.ts';
import { unsupported } from './recognise.ts';
import { damaged, messageOf } from './xml.ts';

/** The parts of a zip archive, by name. */
export interface Archive {
  has(name: string): boolean;
  /** Bytes of a part when it is unpacked, as the archive says; reading more or fewer is an error. */
  bytesOf(name: string): number;
  /** A part, unpacked as it is read. Throws `import_damaged`, `import_unpacks_too_large`, `import_format_unsupported`. */
  read(name: string): AsyncGenerator<Buffer>;
}

/** A sheet of equal lines is packed a few hundred times smaller, and costs nothing; only what is large is judged so. */
const RATIO_FROM_BYTES = 67_108_864;

/** Reads an archive's directory. Throws `import_damaged`, `import_format_unsupported`. */
export async function openArchive(file: FileHandle, limits: ImportLimits): Promise<Archive> {
  const zip = await yauzl.fromFdPromise(file.fd, { autoClose: false }).catch((error: unknown) => {
    throw damaged(messageOf(error), error);
  });
  if (zip.entryCount > limits.import_zip_entries) throw damaged(`it has more than ${limits.import_zip_entries} parts`);
  const entries = new Map<string, yauzl.Entry>();
  try {
    for await (const entry of zip.eachEntry()) entries.set(entry.fileName.replace(/^\/+/, ''), entry);
  } catch (error) {
    throw damaged(messageOf(error), error);
  }
  const find = (name: string) => {
    const entry = entries.get(name);
    if (!entry) throw damaged(`its part ${name} is missing`);
    return entry;
  };
  return {
    has: (name) => entries.has(name),
    bytesOf: (name) => find(name).uncompressedSize,
    async *read(name) {
      const entry = find(name);
      if (entry.isEncrypted()) throw unsupported('an archive with a password');
      checkSize(entry, limits);
      try {
        const stream = await zip.openReadStreamPromise(entry);
        for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk;
      } catch (error) {
        throw error instanceof CarillonError ? error : damaged(messageOf(error), error);
      }
    },
  };
}

function checkSize({ compressedSize, uncompressedSize }: yauzl.Entry, limits: ImportLimits): void {
  const packed = uncompressedSize > RATIO_FROM_BYTES && uncompressedSize > compressedSize * limits.import_unpack_ratio;
  if (!packed && uncompressedSize <= limits.import_unpacked_bytes) return;
  throw new CarillonError('import_unpacks_too_large', {
    bytes: uncompressedSize,
    limit_bytes: limits.import_unpacked_bytes,
    limit_ratio: limits.import_unpack_ratio,
  });
}
