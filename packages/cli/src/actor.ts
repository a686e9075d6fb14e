import { localActor } from '@carillon/engine';

/** Who does what the command line does: whoever may read the database's password on this host. */
export const CLI = localActor('cli');
