import type { BusinessId } from '@carillon/contract';
import { listenForWakes } from '@carillon/engine';

/** One ear for the whole process: tells those who watch a business that something moved in it. */
export interface Wakes {
  /** Returns a function that ends the watching. */
  watch(business_id: BusinessId, onWake: () => void): () => void;
  close(): void;
}

export function createWakes(app_url: string): Wakes {
  const watchers = new Map<BusinessId, Set<() => void>>();
  const stopListening = listenForWakes(app_url, (businesses) => {
    for (const business_id of businesses) for (const onWake of watchers.get(business_id) ?? []) onWake();
  });
  return {
    watch(business_id, onWake) {
      const mine = watchers.get(business_id) ?? new Set();
      watchers.set(business_id, mine.add(onWake));
      return () => {
        mine.delete(onWake);
        if (mine.size === 0 && watchers.get(business_id) === mine) watchers.delete(business_id);
      };
    },
    close: stopListening,
  };
}
