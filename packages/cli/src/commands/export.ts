import { once } from 'node:events';
import type { BusinessId, Language, RunId } from '@carillon/contract';
import { exportRun } from '@carillon/engine';
import type { CommandContext } from '../context.ts';
import { CliError } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import type { Stream } from '../output.ts';

interface Export {
  business: BusinessId;
  lang: Language;
  rows: 'leads' | 'attempts';
}

/** Writes a run as CSV to standard output, piece by piece as fast as it is read there. What is said goes to standard error. */
export async function runsExportCommand(context: CommandContext, options: Export, run_id: RunId): Promise<void> {
  await withDatabase(context, async (db, _, stop) => {
    const pieces = exportRun(db, options.business, run_id, { language: options.lang, rows: options.rows });
    for await (const piece of pieces) {
      if (stop.aborted)
        throw new CliError('export_stopped', `The export of run ${run_id} was stopped; it is not whole`);
      await write(context.stdout, piece, stop);
    }
  });
}

async function write(stdout: Stream, piece: string, stop: AbortSignal): Promise<void> {
  if (stdout.write(piece)) return;
  // Whoever reads may take their time, and may leave: then the program is told to stop.
  await once(stdout, 'drain', { signal: stop }).catch(() => {});
}
