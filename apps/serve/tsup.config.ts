import { bundle } from "../../tsup.config.js";

export default bundle({ cli: "src/cli.ts" }, { dts: false });
