import { CarillonError } from '@carillon/contract';
import { SaxesParser } from 'saxes';
import type { ImportLimits } from '../limits.ts';

/** What is told of an XML document while it is read. Names come without their prefix. */
export interface XmlHandler {
  open?(name: string, attributes: Record<string, string>): void;
  close?(name: string): void;
  text?(text: string): void;
}

const ELEMENTS_DEEP = 64;

/**
 * Reads XML in UTF-8 as it arrives and gives what the handler emits, chunk by chunk. In bounded memory whatever is in
 * it: neither a text, a tag or a comment without end nor elements inside elements are followed far. Entities other than
 * XML's own five are errors, so nothing can be expanded. Throws `import_damaged`, and what the handler throws.
 */
export async function* readXml<T>(
  chunks: AsyncIterable<Buffer>,
  limits: ImportLimits,
  handlerOf: (emit: (item: T) => void) => XmlHandler,
): AsyncGenerator<T> {
  let items: T[] = [];
  const parse = createParser(
    handlerOf((item) => items.push(item)),
    limits,
  );
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for await (const chunk of chunks) {
    parse.write(() => decoder.decode(chunk, { stream: true }));
    yield* items;
    items = [];
  }
  parse.write(() => decoder.decode());
  parse.end();
  yield* items;
}

function createParser(handler: XmlHandler, limits: ImportLimits) {
  const parser = new SaxesParser({ position: false });
  let pending_chars = 0;
  let deep = 0;
  const local = (name: string) => name.slice(name.indexOf(':') + 1);
  const heard = () => (pending_chars = 0);
  parser.on('opentag', (tag) => {
    heard();
    if (++deep > ELEMENTS_DEEP) throw damaged(`elements stand inside each other more than ${ELEMENTS_DEEP} deep`);
    handler.open?.(local(tag.name), tag.attributes as Record<string, string>);
  });
  parser.on('closetag', (tag) => {
    heard();
    deep--;
    handler.close?.(local(tag.name));
  });
  const text = (value: string) => {
    heard();
    handler.text?.(value);
  };
  parser.on('text', text);
  parser.on('cdata', text);
  const guarded = (work: () => void) => {
    try {
      work();
    } catch (error) {
      throw error instanceof CarillonError ? error : damaged(messageOf(error), error);
    }
  };
  return {
    write(read: () => string) {
      guarded(() => {
        const chunk = read();
        pending_chars += chunk.length;
        parser.write(chunk);
      });
      if (pending_chars > limits.import_xml_token_bytes)
        throw damaged(`a text or tag in it is longer than ${limits.import_xml_token_bytes} bytes`);
    },
    end: () => guarded(() => parser.close()),
  };
}

export function damaged(problem: string, cause?: unknown): CarillonError {
  return new CarillonError('import_damaged', { problem }, { cause });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
