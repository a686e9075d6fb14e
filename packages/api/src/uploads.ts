import multipart from '@fastify/multipart';
import { CarillonError } from '@carillon/contract';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Readable } from 'node:stream';

const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';
/** Content types of files. What is in one is recognised by looking: browsers and mail programs name types at random. */
export const FILE_TYPES = [
  'text/csv',
  'text/tab-separated-values',
  'application/x-ndjson',
  XLSX,
  'application/vnd.ms-excel',
  'application/octet-stream',
];
export const UPLOAD_TYPES = `text/csv, application/x-ndjson, ${XLSX}, or multipart/form-data with the file in it`;

/** Takes files as streams and nothing else: what comes in is handed on as it comes, and waits in the sender's hands. */
export async function takeUploads(app: FastifyInstance, import_body_bytes: number): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(FILE_TYPES, (_request, payload, done) => done(null, payload));
  await app.register(multipart, {
    // The bytes are counted below, for both kinds of upload alike.
    throwFileSizeLimit: false,
    limits: { fileSize: import_body_bytes + 1, files: 1, fields: 20, fieldSize: 10_000, parts: 21, headerPairs: 100 },
  });
}

/** So much of a refused file is still taken in, so that its sender comes to read why. */
const DISCARDED_BYTES = 67_108_864;

/**
 * The file in a request: its body, or the first file of a form. Iterating throws `body_too_large` above
 * `import_body_bytes`, and `invalid_request` when the upload breaks off or is no form. Whoever stops reading leaves the
 * rest to be thrown away: a connection that is cut while it sends never shows the answer to the sender, and one that is
 * left as it is would keep its next request waiting.
 */
export async function* uploadedFile(request: FastifyRequest, import_body_bytes: number): AsyncGenerator<Buffer> {
  let received_bytes = 0;
  let file: Readable | undefined;
  try {
    file = await openUpload(request);
    for await (const chunk of file.iterator({ destroyOnReturn: false })) {
      if (!Buffer.isBuffer(chunk)) throw new Error('an upload gave something other than bytes');
      received_bytes += chunk.length;
      if (received_bytes > import_body_bytes)
        throw new CarillonError('body_too_large', { limit_bytes: import_body_bytes });
      yield chunk;
    }
  } catch (error) {
    if (error instanceof CarillonError) throw error;
    const problem = request.raw.destroyed && !request.raw.complete ? 'the upload broke off' : readProblem(error);
    throw new CarillonError('invalid_request', { problem }, { cause: error });
  } finally {
    if (file && !file.readableEnded && !file.destroyed) discard(file, request);
  }
}

function discard(file: Readable, request: FastifyRequest): void {
  let left_bytes = DISCARDED_BYTES;
  // What breaks now concerns nobody.
  file.on('error', () => {});
  file.on('data', (chunk: Buffer) => {
    left_bytes -= chunk.length;
    if (left_bytes < 0) request.raw.destroy();
  });
}

async function openUpload(request: FastifyRequest): Promise<Readable> {
  if (!request.isMultipart()) return isStream(request.body) ? request.body : Readable.from([]);
  const part = await request.file();
  if (!part) throw new CarillonError('invalid_request', { problem: 'the form has no file in it' });
  return part.file;
}

function isStream(body: unknown): body is Readable {
  return body instanceof Readable;
}

function readProblem(error: unknown): string {
  return `the upload can't be read (${error instanceof Error ? error.message : 'no reason given'})`;
}
