import type { Command } from 'commander';
import { type Config, debugging, dumbTerminal, type Environment, type Need, readConfig } from './config.ts';
import { describeFailure } from './errors.ts';
import { installFault } from './faults.ts';
import { createOutput, type Output, type Stream } from './output.ts';

/** What every command works with. */
export interface CommandContext {
  config: Config;
  output: Output;
  /** For commands that write data, not sentences. */
  stdout: Stream;
  /** For variables that the command line names; all others are in `config`. */
  env: Environment;
}

export interface Io {
  stdout: Stream;
  stderr: Stream;
  env: Environment;
}

/** The options that commands have in common. */
interface CommonOptions {
  json?: boolean;
  data?: string;
  /** The API's, as text, held to the same rules as CARILLON_PORT; the simulator's own is a number by now. */
  port?: string | number;
}

/** A command's exit code; nothing is 0. */
export type Work<Options, Args extends unknown[]> = (
  context: CommandContext,
  options: Options,
  ...args: Args
) => Promise<number | void>;

/**
 * Binds a command to its work: reads the configuration, speaks of what fails in one sentence on standard error, and
 * leaves the exit code in `exit`.
 */
export function createRunner(io: Io, exit: { code: number }) {
  return <Options extends object, Args extends unknown[]>(
    command: Command,
    needs: readonly Need[],
    work: Work<Options, Args>,
    /** Standard output is for data: what is said goes to standard error. */
    { data = false }: { data?: boolean } = {},
  ): Command =>
    command.action(async (...given: unknown[]) => {
      const options = command.opts<Options & CommonOptions>();
      // Commander hands over the arguments, then the options and the command itself.
      const args = given.slice(0, -2) as Args;
      const { stdout, stderr, env } = io;
      const output = createOutput({
        stdout: data ? stderr : stdout,
        stderr,
        json: options.json === true,
        dumb: dumbTerminal(env),
      });
      try {
        const port = typeof options.port === 'string' ? options.port : undefined;
        const { config, warnings } = readConfig(env, { data: options.data, port }, needs);
        for (const warning of warnings) output.warn(`carillon: ${warning}`);
        if (config.fault) installFault(config.fault);
        exit.code = (await work({ config, output, stdout, env }, options, ...args)) ?? 0;
      } catch (error) {
        exit.code = tellFailure(output, error, debugging(env));
      }
    });
}

/** Returns the exit code. */
function tellFailure(output: Pick<Output, 'warn'>, error: unknown, with_stack: boolean): number {
  const { code, sentence, details, exit_code } = describeFailure(error);
  output.warn(`carillon: ${sentence.replace(/\.$/, '')} [${code}]`);
  for (const detail of details) output.warn(`  - ${detail}`);
  if (with_stack && error instanceof Error) output.warn(error.stack ?? '');
  return exit_code;
}
