import { createInterface } from 'node:readline';
import { createCarrierDrivers } from '../../src/index.ts';
import { placeRequest } from './wire.ts';

/**
 * A process of its own that places one call: argument 1 is the carrier, argument 2 how long after its start the body
 * may leave, in ms. It says `ready` when the headers are out, paces until a line comes in, and prints the result.
 */
const [base_url, deadline_ms] = process.argv.slice(2);
const deadline = performance.now() + Number(deadline_ms);
const input = createInterface({ input: process.stdin });
const result = await createCarrierDrivers()
  .get('twilio')!
  .place(placeRequest(base_url!), {
    pace: () => {
      process.stdout.write('ready\n');
      return new Promise((resolve) => input.once('line', () => resolve()));
    },
    mayStart: () => performance.now() < deadline,
  });
process.stdout.write(`${JSON.stringify(result)}\n`);
input.close();
