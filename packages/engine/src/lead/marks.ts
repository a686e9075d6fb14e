/** Numbers from 1 that were marked: one bit for each that may be. */
export interface Marks {
  add(number: number): void;
  has(number: number): boolean;
}

/** Marks of the numbers 1 to `most`. */
export function createMarks(most: number): Marks {
  const bits = new Uint8Array(Math.ceil((most + 1) / 8));
  return {
    add(number) {
      bits[number >> 3] = (bits[number >> 3] ?? 0) | (1 << (number & 7));
    },
    has: (number) => ((bits[number >> 3] ?? 0) & (1 << (number & 7))) !== 0,
  };
}
