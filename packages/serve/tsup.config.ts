import { bundle } from "../../tsup.config.js";

export default bundle({ index: "src/index.ts", http: "src/http/index.ts", hub: "src/hub/index.ts" });
