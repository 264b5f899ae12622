import { bundle } from "../../tsup.config.js";

export default bundle({ index: "src/index.ts", internal: "src/internal.ts" });
