import { describe, expect, it } from 'vitest';
import { ERROR_HELP } from './error-help.ts';
import { type ErrorCode, ERRORS } from '../src/errors.ts';

const INTRODUCTION = `# Errors

Every error of the HTTP interface has one shape, and the command line ends its sentence with the same code in brackets:

\`\`\`json
{"error": "Run not found", "code": "run_not_found", "request_id": "7b1c…", "details": {}}
\`\`\`

\`error\` is the sentence itself, in the language of \`Accept-Language\` (en, he), else of the business, else English. Programs
should look at \`code\`. \`details\` holds what the sentence was filled with, and is left out when there is nothing. What
another business has and what nobody has get the same answer.

This page is made from the table in \`packages/contract/src/errors.ts\` (\`npx vitest run packages/contract -u\`), and each
code is proven to be reached in \`packages/api/test/error-codes.test.ts\`.

| code | HTTP | English | עברית | what it means, what to do |
|---|---|---|---|---|
`;

const cell = (text: string) => text.replaceAll('|', '\\|');

function page(): string {
  const rows = (Object.entries(ERRORS) as [ErrorCode, (typeof ERRORS)[ErrorCode]][]).map(
    ([code, { http, en, he }]) => `| \`${code}\` | ${http} | ${cell(en)} | ${cell(he)} | ${cell(ERROR_HELP[code])} |\n`,
  );
  return INTRODUCTION + rows.join('');
}

describe('docs/errors.md', () => {
  it('says of every code what it means and what to do', () => {
    expect(Object.keys(ERROR_HELP).toSorted()).toEqual(Object.keys(ERRORS).toSorted());
    for (const help of Object.values(ERROR_HELP)) expect(help).toMatch(/^[A-Z`].{20,}\.$/);
  });

  it('is the table, word for word; -u writes it', async () => {
    await expect(page()).toMatchFileSnapshot('../../../docs/errors.md');
  });
});
