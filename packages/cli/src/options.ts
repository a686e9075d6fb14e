import { BusinessId, RunId } from '@carillon/contract';
import { Argument, Option } from 'commander';
import { z } from 'zod';
import { parsed } from './arguments.ts';

/** Options and arguments that several commands have. */

export const asJson = () => new Option('--json', 'print one JSON object on standard output, and nothing else there');
export const dataDir = () =>
  new Option('--data <dir>', 'the data directory of the embedded database; as CARILLON_DATA_DIR');
export const apiPort = () => new Option('--port <n>', 'the port of the API; as CARILLON_PORT');
export const business = () =>
  new Option('--business <id>', 'the business')
    .argParser(parsed(BusinessId, 'the number of a business'))
    .makeOptionMandatory();
export const runArgument = () => new Argument('<run>', 'the run').argParser(parsed(RunId, 'the number of a run'));

const wholeNumber = z.coerce.number().int().min(1).max(1_000_000_000);
export const positive = (text: string) => parsed(wholeNumber, 'a whole number from 1')(text);
export const portNumber = parsed(z.coerce.number().int().min(0).max(65_535), 'a whole number from 0 to 65535');
