import { type Database, guardErrors, lostWakes, transactionRetries } from '@carillon/engine';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

/** What every process can say of itself: memory, event loop, its way to the database. Names no business. */
export function createProcessMetrics(db: Database): Registry {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const counted = (name: string, help: string, of: { count: number }) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(of.count);
      },
    });
  counted(
    'carillon_transaction_retries_total',
    'Transactions run again after a serialisation failure or a deadlock.',
    transactionRetries,
  );
  counted(
    'carillon_guard_errors_total',
    'Writes that touched another number of rows than the locked state promised. Each is a fault of ours.',
    guardErrors,
  );
  counted('carillon_lost_wakes_total', 'Wake-ups that could not be sent; polling does their work.', lostWakes);
  new Gauge({
    name: 'carillon_database_connections',
    help: 'Connections of the application pool by what they do; waiting: requests that wait for one.',
    labelNames: ['state'],
    registers,
    collect() {
      const { busy, idle, waiting } = db.connections();
      this.set({ state: 'busy' }, busy);
      this.set({ state: 'idle' }, idle);
      this.set({ state: 'waiting' }, waiting);
    },
  });
  return registry;
}
