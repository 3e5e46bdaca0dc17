/** What an oracle is asked for. */
export interface OracleRequest {
  readonly mode: string | undefined;
  readonly cases: number;
  readonly seed: number;
}
