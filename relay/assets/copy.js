// A button on each block of commands. Without this script a triple click selects a line.
"use strict";

(() => {
    // Where the page has no clipboard: a relay without TLS.
    const copySelected = (code) => {
        const selection = window.getSelection();
        selection.selectAllChildren(code);
        const done = document.execCommand("copy");
        selection.removeAllRanges();
        return done;
    };

    const copy = async (code) => {
        try {
            await navigator.clipboard.writeText(code.textContent);
            return true;
        } catch {
            return copySelected(code);
        }
    };

    const addButtons = (root) => {
        for (const block of root.querySelectorAll("pre")) {
            const code = block.querySelector("code");
            if (!code || block.parentElement.classList.contains("copyable")) {
                continue;
            }
            const frame = document.createElement("div");
            frame.className = "copyable";
            block.replaceWith(frame);
            const button = document.createElement("button");
            button.type = "button";
            button.className = "copy";
            button.textContent = "Copy";
            button.addEventListener("click", async () => {
                button.textContent = (await copy(code)) ? "Copied" : "Select it by hand";
                setTimeout(() => (button.textContent = "Copy"), 1500);
            });
            frame.append(block, button);
        }
    };

    window.converge = { addButtons };
    addButtons(document);
})();
