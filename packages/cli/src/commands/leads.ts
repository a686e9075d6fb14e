import { createReadStream } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { type BusinessId, CarillonError, ImportId, type ImportReport, ListId } from '@carillon/contract';
import { type Database, importLeads, type ImportOptions, listNamed, rejectedLines } from '@carillon/engine';
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
  report?: string;
}

/** Imports a CSV file into a list, which is made where there is none of that name. */
export async function leadsImportCommand(context: CommandContext, options: Import, file: string): Promise<void> {
  const { output } = context;
  const { bytes } = await readableFile(file);
  const mapping = {
    phone: options.phone,
    name: options.name,
    external_id: options.externalId,
    time_zone: options.timeZone,
  };
  const report = await withDatabase(context, async (db, _, stop) => {
    const { list_id } = await listNamed(db, options.business, { name: options.list }, CLI);
    const source = { file, bytes, list_id: ListId.parse(list_id), stop };
    const done = await importFile(
      db,
      options.business,
      source,
      { actor: CLI, country: options.country, mapping },
      output,
    );
    if (options.report) await writeReport(db, options.business, done, options.report);
    return done;
  });
  output.say(`List ${report.list_id} "${options.list}": ${sumUp(report)}`);
  if (options.report) output.say(`The lines that were not accepted, with reasons: ${options.report}`);
  else if (report.rejected > 0)
    output.say('Import with --report FILE to see each line that was not accepted, and why.');
  output.result(report);
}

export function sumUp({ lines, accepted, duplicates, rejected }: ImportReport): string {
  return `${counted(lines, 'line')}: ${count(accepted)} accepted, ${count(duplicates)} duplicates, ${count(rejected)} rejected`;
}

/** A file's size. Throws CliError for what is no readable file, or is empty. */
export async function readableFile(file: string): Promise<{ bytes: number }> {
  const found = await stat(file).catch((error: unknown) => {
    throw fileError(file, error);
  });
  if (found.isDirectory()) throw new CliError('file_is_directory', `${file} is a directory; name the CSV file in it`);
  if (found.isFile() && found.size === 0)
    throw new CliError('import_file_empty', `${file} is empty; expected a CSV file with a header line`);
  return { bytes: found.size };
}

/** Trouble with reading a file, in the words of whoever named it. */
function fileError(file: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return new CliError('file_not_found', `There is no file ${file}`);
  if (code === 'EISDIR') return new CliError('file_is_directory', `${file} is a directory; name the CSV file in it`);
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
  let lines = 0;
  const end = output.display(() => ({
    title: 'Importing',
    progress: bytes === 0 ? 0 : source.bytesRead / bytes,
    figures: counted(lines, 'line'),
    below: [],
  }));
  try {
    const onProgress = (totals: { lines: number }) => (lines = totals.lines);
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
  const sentence = error.message.replace('phone=COLUMN', '--phone COLUMN').replace(/^The file /, '');
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
