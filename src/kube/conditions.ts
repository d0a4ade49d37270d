import { shortened } from '../lib/shortened.ts';

/** One aspect of an object's state, as in all of Kubernetes (metav1.Condition). */
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  /** One word for programs. */
  reason: string;
  /** For people. */
  message: string;
  /** When the status changed last. */
  lastTransitionTime: string;
  /** The metadata.generation that was looked at. */
  observedGeneration?: number | undefined;
}

/** What one check has found out about one aspect. */
export type Finding = Pick<Condition, 'status' | 'reason' | 'message'>;

/** As our definitions have it. What is said of an image may quote it, or a web server, at any length. */
const maxMessageLength = 4096;

/** Every condition says by True that all is well, so this is also the order from worst to best. */
const severity = ['False', 'Unknown', 'True'] as const;

/**
 * Collects what the checks of one reconcile find, and makes conditions of it. A condition that no check has spoken of is
 * Unknown; where several have, the worst counts, and of equally bad ones the first.
 */
export class ConditionReport<Type extends string> {
  readonly #findings: Map<Type, Finding | undefined>;

  /** @param types all conditions that this reconciler writes; others' are left alone */
  constructor(types: readonly Type[]) {
    this.#findings = new Map(types.map((type) => [type, undefined]));
  }

  report(type: Type, status: Condition['status'], reason: string, message: string): void {
    const earlier = this.#findings.get(type);
    if (earlier && severity.indexOf(earlier.status) <= severity.indexOf(status)) return;
    this.#findings.set(type, { status, reason, message: shortened(message, maxMessageLength) });
  }

  /** The worst that was found about `type`, undefined where nothing was. */
  found(type: Type): Finding | undefined {
    return this.#findings.get(type);
  }

  /**
   * The conditions to write, in the order in which they are, new ones last.
   *
   * @param existing of the object now
   * @param observedGeneration the generation that was looked at
   */
  conditions(existing: readonly Condition[], observedGeneration: number, now: Date): Condition[] {
    const written = existing.map((condition) =>
      this.#findings.has(condition.type as Type) ? this.#renew(condition, observedGeneration, now) : condition,
    );
    const known = new Set(existing.map(({ type }) => type));
    const added = [...this.#findings.keys()].filter((type) => !known.has(type));
    return [
      ...written,
      ...added.map((type) => ({
        type,
        ...this.#finding(type),
        lastTransitionTime: timestampOf(now),
        observedGeneration,
      })),
    ];
  }

  #renew(existing: Condition, observedGeneration: number, now: Date): Condition {
    const finding = this.#finding(existing.type as Type);
    const changed = finding.status !== existing.status;
    const lastTransitionTime = changed ? timestampOf(now) : existing.lastTransitionTime;
    return { type: existing.type, ...finding, lastTransitionTime, observedGeneration };
  }

  #finding(type: Type): Finding {
    return (
      this.#findings.get(type) ?? { status: 'Unknown', reason: 'NotChecked', message: 'It was not looked at yet.' }
    );
  }
}

/** The form of Kubernetes' own time stamps: whole seconds. */
export function timestampOf(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The condition of that type, where there is one. */
export function findCondition(conditions: readonly Condition[], type: string): Condition | undefined {
  return conditions.find((condition) => condition.type === type);
}

/** Whether the condition of that type is True. */
export function isTrue(conditions: readonly Condition[], type: string): boolean {
  return findCondition(conditions, type)?.status === 'True';
}
