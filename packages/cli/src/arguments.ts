import { InvalidArgumentError } from 'commander';
import type { z } from 'zod';

/** A parser of an option or argument for commander: what the schema refuses is a wrong use, with what was expected. */
export function parsed<T>(schema: z.ZodType<T, unknown>, expected: string): (text: string) => T {
  return (text) => {
    const result = schema.safeParse(text);
    if (result.success) return result.data;
    throw new InvalidArgumentError(`Expected ${expected}.`);
  };
}

/** The same for an option that may be given several times. */
export function collected<T>(schema: z.ZodType<T, unknown>, expected: string): (text: string, earlier?: T[]) => T[] {
  const parse = parsed(schema, expected);
  return (text, earlier = []) => [...earlier, parse(text)];
}
