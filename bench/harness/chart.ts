// The table as a picture: for each row how far the result is beyond its goal, or short of it.
import { loadRival } from "../support/rival.ts";
import { type Row, shown } from "./row.ts";

type VegaLite = { compile(spec: object): { spec: object } };
type Vega = {
  parse(spec: object): object;
  View: new (runtime: object, options: object) => { toSVG(): Promise<string> };
};

const MET = "#2a7f62";
const MISSED = "#c0392b";

/** An SVG. A bar to 2 is twice what the goal asks, also where less is better. */
export async function chartOf(rows: readonly Row[]): Promise<string> {
  const vegaLite = (await loadRival("vega-lite")) as VegaLite;
  const vega = (await loadRival("vega")) as Vega;
  const values = rows.flatMap((row) => {
    if (row.result === null) return [];
    const reached = row.direction === "at least" ? row.result / row.goal : row.goal / row.result;
    const sign = row.direction === "at least" ? "≥" : "≤";
    const unit = row.unit === "x" ? "" : ` ${row.unit}`;
    const label = `${shown(row.result)}${unit} (${sign} ${shown(row.goal)})`;
    return [{ name: row.name, reached, label, verdict: row.holds ? "goal met" : "goal missed" }];
  });
  const y = { field: "name", type: "nominal", sort: null, title: null, axis: { labelLimit: 420 } };
  const scale = { type: "log", domainMin: 0.1, nice: true };
  const x = { field: "reached", type: "quantitative", scale, title: "result over goal (log scale; 1 meets it)" };
  const colour = { field: "verdict", type: "nominal", title: null };
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    width: 460,
    height: { step: 22 },
    data: { values },
    layer: [
      {
        mark: { type: "bar", height: 12 },
        encoding: {
          ...{ y, x, x2: { datum: 1 } },
          color: { ...colour, scale: { domain: ["goal met", "goal missed"], range: [MET, MISSED] } },
        },
      },
      { mark: { type: "rule", color: "#333" }, encoding: { x: { datum: 1 } } },
      { mark: { type: "text", align: "left", dx: 6, fontSize: 10 }, encoding: { y, x, text: { field: "label" } } },
    ],
  };
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" });
  return `${await view.toSVG()}\n`;
}
