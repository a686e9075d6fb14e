import { startCarrierSim } from '../src/index.ts';
import { quick } from './quick.ts';

/** A simulator in a process of its own, to be killed. Tells its parent its URL. */
const sim = await startCarrierSim({ port: 0, ledgerFile: process.argv[2] ?? '', behaviour: { default: quick } });
process.send?.(sim.url);
