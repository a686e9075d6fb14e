import { createBusiness } from '@carillon/engine';
import type { Language } from '@carillon/contract';
import { CLI } from '../actor.ts';
import type { CommandContext } from '../context.ts';
import { withDatabase } from '../installation.ts';

interface NewBusiness {
  country?: string;
  language?: Language;
  timeZone?: string;
}

/** A business and its owner's key, which is shown this once. */
export async function businessCreateCommand(
  context: CommandContext,
  options: NewBusiness,
  name: string,
): Promise<void> {
  const { output } = context;
  const { business_id, key } = await withDatabase(context, (db) =>
    createBusiness(
      db,
      { name, country: options.country, language: options.language, time_zone: options.timeZone },
      CLI,
    ),
  );
  output.say(`Created business ${business_id}.`);
  output.say(`Its owner's API key, shown only now: ${key}`);
  output.result({ business_id, key });
}
