/** A rule in CEL that the API server checks. It must be true; `self` is the value, `oldSelf` the one before an update. */
export interface Rule {
  rule: string;
  /** A sentence that begins with the field and says what to do. */
  message: string;
  /** The field that the message is about, below the one that has the rule: `.size`. */
  fieldPath?: string;
}

/** For `.meta()`. */
export function withRules(...rules: Rule[]): { 'x-kubernetes-validations': Rule[] } {
  return { 'x-kubernetes-validations': rules };
}

/** @param hint what to do instead; ends the sentence */
export function immutable(field: string, hint: string): Rule {
  return { rule: 'self == oldSelf', message: `${field} cannot be changed: ${hint}` };
}

/** For the object that has the field: it may be filled in later, by the controller for one, and stays then. */
export function immutableOnceSet(field: string, hint: string): Rule {
  return {
    rule: `!has(oldSelf.${field}) || has(self.${field}) && self.${field} == oldSelf.${field}`,
    message: `${field} cannot be changed once it is set: ${hint}`,
    fieldPath: `.${field}`,
  };
}
