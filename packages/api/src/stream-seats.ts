import { CarillonError } from '@carillon/contract';
import type { ApiLimits } from './limits.ts';

/** Counts the open streams, of each business and of all. */
export interface StreamSeats {
  /** Takes a seat, or throws `too_many_streams`. Returns a function that gives it back, once. */
  take(business_id: number): () => void;
}

export function createStreamSeats(limits: ApiLimits, onChange: (open: number) => void): StreamSeats {
  const seats = new Map<number, number>();
  let open = 0;
  const count = (business_id: number, by: 1 | -1) => {
    open += by;
    const mine = (seats.get(business_id) ?? 0) + by;
    if (mine > 0) seats.set(business_id, mine);
    else seats.delete(business_id);
    onChange(open);
  };
  return {
    take(business_id) {
      const mine = seats.get(business_id) ?? 0;
      if (mine >= limits.streams_per_business)
        throw new CarillonError('too_many_streams', { limit: limits.streams_per_business });
      if (open >= limits.streams) throw new CarillonError('too_many_streams', { limit: limits.streams });
      count(business_id, 1);
      let taken = true;
      return () => {
        if (taken) count(business_id, -1);
        taken = false;
      };
    },
  };
}
