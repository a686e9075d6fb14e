/** The beginning of a file, and the whole of it all the same. */
export interface Sampled {
  /** At most `sample_bytes`; less when the file is shorter. */
  sample: Buffer;
  /** Whether the sample is all there is. */
  whole: boolean;
  /** Every byte, the sample's first. To be read once. */
  bytes: AsyncIterable<Buffer>;
  /** Tells the source that nothing more is wanted of it. Waits for nothing: a sender may be silent for long. */
  close(): void;
}

/** Reads the beginning of a file. What was read beyond the sample waits, so memory holds one chunk more. */
export async function takeSample(source: AsyncIterable<Buffer>, sample_bytes: number): Promise<Sampled> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Buffer[] = [];
  let length = 0;
  let whole = false;
  while (length < sample_bytes && !whole) {
    const next = await iterator.next();
    if (next.done) whole = true;
    else {
      chunks.push(next.value);
      length += next.value.length;
    }
  }
  const head = Buffer.concat(chunks);
  async function* bytes(): AsyncGenerator<Buffer> {
    if (head.length > 0) yield head;
    for (let more = !whole; more; ) {
      const next = await iterator.next();
      if (next.done) more = false;
      else yield next.value;
    }
  }
  const close = () => void iterator.return?.().catch(() => {});
  return { sample: head.subarray(0, sample_bytes), whole, bytes: bytes(), close };
}
