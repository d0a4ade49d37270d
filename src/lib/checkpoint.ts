/**
 * Called after each named step of an operation that changes the outside world. Production passes a function that does
 * nothing; tests one that kills the process there. The catalogs of steps (store/steps.ts, engine/steps.ts) are the
 * list that the kill tests run through, so a step cannot be added without being tested.
 */
export type Checkpoint<Step extends string = string> = (step: Step) => void;

/** `operation/step` for every step of a catalog. */
export type StepsOf<Catalog extends Record<string, readonly string[]>> = {
  [Operation in keyof Catalog & string]: `${Operation}/${Catalog[Operation][number]}`;
}[keyof Catalog & string];

export function listSteps<Catalog extends Record<string, readonly string[]>>(catalog: Catalog): StepsOf<Catalog>[] {
  return Object.entries(catalog).flatMap(([operation, steps]) =>
    steps.map((step) => `${operation}/${step}` as StepsOf<Catalog>),
  );
}
