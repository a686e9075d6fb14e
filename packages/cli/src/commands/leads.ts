import { createReadStream } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { type BusinessId, CarillonError, ImportId, type ImportReport, ListId } from '@carillon/contract';
import {
  type Database,
  type Encoding,
  importLeads,
  type ImportOptions,
  LINE_REASONS,
  listNamed,
  rejectedLines,
} from '@carillon/engine';
import { CLI } from '../actor.ts';
import type { CommandContext } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import { count, counted, type Output } from '../output.ts';

interface Import {
  business: BusinessId;
  list: string;
  country?: string;
  phone?: string;
  name?: string;
  externalId?: string;
  timeZone?: string;
  extension?: string;
  consentSource?: string;
  consentAt?: string;
  consentText?: string;
  encoding?: Encoding;
  sheet?: string;
  report?: string;
}

/** Imports a file into a list, which is made where there is none of that name. */
export async function leadsImportCommand(context: CommandContext, options: Import, file: string): Promise<void> {
  const { output } = context;
  const { bytes } = await readableFile(file);
  const mapping = {
    phone: options.phone,
    name: options.name,
    external_id: options.externalId,
    time_zone: options.timeZone,
    extension: options.extension,
    consent_source: options.consentSource,
    consent_at: options.consentAt,
    consent_text: options.consentText,
  };
  const report = await withDatabase(context, async (db, _, stop) => {
    const { list_id } = await listNamed(db, options.business, { name: options.list }, CLI);
    const source = { file, bytes, list_id: ListId.parse(list_id), stop };
    const done = await importFile(
      db,
      options.business,
      source,
      { actor: CLI, country: options.country, encoding: options.encoding, sheet: options.sheet, mapping },
      output,
    );
    if (options.report) await writeReport(db, options.business, done, options.report);
    return done;
  });
  output.say(`List ${report.list_id} "${options.list}": ${sumUp(report)}`);
  for (const line of explain(report)) output.say(`  ${line}`);
  if (options.report) output.say(`The lines that were not accepted, with reasons: ${options.report}`);
  else if (report.rejected > 0)
    output.say('Import with --report FILE to see each line that was not accepted, and why.');
  output.result(report);
}

export function sumUp({ lines, accepted, duplicates, rejected }: ImportReport): string {
  return `${counted(lines, 'line')}: ${count(accepted)} accepted, ${count(duplicates)} duplicates, ${count(rejected)} rejected`;
}

/** How the file was read, and how many lines have which reason. */
function explain({ file, updated, reasons }: ImportReport): string[] {
  const known = Object.entries(LINE_REASONS);
  const counts = known.flatMap(([code, { en }]) => (reasons[code] ? `${count(reasons[code])} × ${code}: ${en}` : []));
  const source = file && [file.format.toUpperCase(), file.encoding, file.sheet && `sheet "${file.sheet}"`];
  const read = source && `Read as ${source.filter(Boolean).join(', ')}; the numbers from "${file.columns.phone}"`;
  return [
    ...(read ? [read] : []),
    ...(updated > 0 ? [`${counted(updated, 'lead')} that the business had already got new values`] : []),
    ...counts,
  ];
}

/** A file's size. Throws CliError for what is no readable file, or is empty. */
export async function readableFile(file: string): Promise<{ bytes: number }> {
  const found = await stat(file).catch((error: unknown) => {
    throw fileError(file, error);
  });
  if (found.isDirectory()) throw new CliError('file_is_directory', `${file} is a directory; name the file in it`);
  if (found.isFile() && found.size === 0)
    throw new CliError('import_file_empty', `${file} is empty; expected a list with a header line`);
  return { bytes: found.size };
}

/** Trouble with reading a file, in the words of whoever named it. */
function fileError(file: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return new CliError('file_not_found', `There is no file ${file}`);
  if (code === 'EISDIR') return new CliError('file_is_directory', `${file} is a directory; name the file in it`);
  if (code === 'EACCES' || code === 'EPERM' || code === 'ENOTDIR' || code === 'ELOOP')
    return new CliError('file_unreadable', `${file} can't be read: ${messageOf(error)}`);
  return error;
}

export interface ImportFile {
  file: string;
  bytes: number;
  list_id: ListId;
  stop: AbortSignal;
}

/** Imports with a progress bar. The engine's words about a file get the file's name, and the command line's options. */
export async function importFile(
  db: Database,
  business_id: BusinessId,
  { file, bytes, list_id, stop }: ImportFile,
  options: ImportOptions,
  output: Output,
): Promise<ImportReport> {
  const source = createReadStream(file, { signal: stop });
  // One that is stopped before anybody reads it must not take the process down: whoever reads it hears of it.
  source.on('error', () => {});
  let lines = 0;
  let written: number | null = null;
  const end = output.display(() => ({
    title: 'Importing',
    // A workbook is copied before its first line is read, so what was read of the file says nothing about it.
    progress: written ?? (bytes === 0 ? 0 : source.bytesRead / bytes),
    figures: counted(lines, 'line'),
    below: [],
  }));
  try {
    const onProgress = (totals: { lines: number }, read: number | null) => {
      lines = totals.lines;
      written = read;
    };
    return await importLeads(db, business_id, list_id, source, { ...options, onProgress });
  } catch (error) {
    if (stop.aborted)
      throw new CliError('import_stopped', `The import of ${file} was stopped; the list is as it was`, {
        cause: error,
      });
    if (error instanceof CarillonError && error.code.startsWith('import_')) throw inWords(file, error);
    throw fileError(file, error);
  } finally {
    end();
    source.destroy();
  }
}

function inWords(file: string, error: CarillonError): CliError {
  // What the API calls a parameter is an option here.
  const sentence = error.message
    .replace(/\b(phone|encoding)=(COLUMN|ENCODING|windows-1255)/, '--$1 $2')
    .replace(/^The file /, '');
  const named = sentence === error.message ? `${file}: ${sentence}` : `${file} ${sentence}`;
  return new CliError(error.code, error.code === 'import_no_phone_column' ? `${file}: ${sentence}` : named, {
    cause: error,
  });
}

async function writeReport(db: Database, business_id: BusinessId, report: ImportReport, target: string): Promise<void> {
  const lines = rejectedLines(db, business_id, ImportId.parse(report.import_id));
  await writeFile(target, lines).catch((error: unknown) => {
    throw new CliError('report_not_written', `The import is done, but ${target} can't be written: ${messageOf(error)}`);
  });
}
