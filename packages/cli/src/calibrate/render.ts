/** Calibrations as text and as JSON. */
import { agrees, type Calibration, type Finding } from "./finding.js";

export interface Outcome {
  readonly calibration: Calibration;
  readonly findings: readonly Finding[];
}

export function passes({ findings }: Outcome): boolean {
  return findings.every(agrees);
}

export function calibrationText(outcomes: readonly Outcome[]): string {
  return outcomes
    .map(({ calibration: { name, title, source }, findings }) =>
      [`${name}: ${title}`, `  ${source}`, ...findings.flatMap(lines)].join("\n"),
    )
    .join("\n\n");
}

function lines(finding: Finding): string[] {
  const { what, unit, published, basis = "published", model, how } = finding;
  const figures = `${basis} ${figure(published, unit)}, model ${figure(model, unit)} (${within(finding)})`;
  return [`  ${agrees(finding) ? "ok  " : "OFF "}  ${what}: ${figures}`, `        ${how}`];
}

function figure(value: number, unit: string): string {
  const text = Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);
  return unit === "" ? text : `${text} ${unit}`;
}

function within({ tolerance }: Finding): string {
  if (tolerance === "trend") return "as a trend";
  return tolerance === 0 ? "exact" : `within ${100 * tolerance}%`;
}

export function calibrationJson(outcomes: readonly Outcome[]): string {
  return JSON.stringify(
    outcomes.map(({ calibration: { name, title, source }, findings }) => ({
      name,
      title,
      source,
      findings: findings.map((finding) => ({ ...finding, agrees: agrees(finding) })),
    })),
    null,
    2,
  );
}
