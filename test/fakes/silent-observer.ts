/** What nobody wants to make metrics of: all that controllers, reflectors and the sender of events tell. */
export const silentObserver = {
  observeReconcile: () => {},
  observeQueue: () => {},
  observeList: () => {},
  observeWatchFailure: () => {},
  observeDroppedEvent: () => {},
};
