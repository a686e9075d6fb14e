import type { FastifySchemaCompiler } from 'fastify';
import { z } from 'zod';

const HEBREW = z.locales.he().localeError;

/** What is wrong at one place of a request, in both languages. */
export interface InputIssue {
  path: string[];
  en: string;
  he: string;
}

/** A part of a request that its schema refuses. The server adds which part. */
export class InvalidInput extends Error {
  readonly issues: InputIssue[];
  validationContext?: string;
  constructor(issues: InputIssue[]) {
    super('the input does not fit its schema');
    this.issues = issues;
  }
}

/** Checks with Zod. What is refused is checked once more to hear it in Hebrew: whose request it is, is not known here. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema }) => {
  return (data: unknown) => {
    const { success, data: value, error } = schema.safeParse(data);
    if (success) return { value };
    const hebrew = schema.safeParse(data, { error: HEBREW }).error?.issues ?? [];
    const issues = error.issues.map(({ path, message }, n) => ({
      path: path.map(String),
      en: message,
      he: hebrew[n]?.message ?? message,
    }));
    return { error: new InvalidInput(issues) };
  };
};
