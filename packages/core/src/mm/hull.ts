/** The smallest range that holds every page added. */
export class Hull {
  constructor(
    public first = Number.POSITIVE_INFINITY,
    public limit = 0,
  ) {}

  get empty(): boolean {
    return this.limit === 0;
  }

  add(page: number): void {
    if (page < this.first) this.first = page;
    if (page >= this.limit) this.limit = page + 1;
  }
}
