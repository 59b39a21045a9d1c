// Keeps the form in this browser, and shows its result while somebody types. The relay makes the result; without this
// script the form's button asks for it.
"use strict";

(() => {
    const KEPT = "converge.usage";
    const form = document.getElementById("usage");
    const kept = document.getElementById("kept");
    let asked = 0;

    const fields = () => [...form.elements].filter((field) => field.name);
    const query = () => new URLSearchParams(fields().map((field) => [field.name, field.value]));

    // A browser may not want to keep anything.
    const store = (act) => {
        try {
            return act(window.localStorage);
        } catch {
            return null;
        }
    };

    const show = async () => {
        const mine = ++asked;
        let text;
        try {
            const answer = await fetch(`usage?${query()}`, { headers: { accept: "text/html" } });
            if (!answer.ok) {
                return;
            }
            text = await answer.text();
        } catch {
            return; // The button still works when the network does.
        }
        if (mine !== asked) {
            return;
        }
        const result = new DOMParser().parseFromString(text, "text/html").getElementById("result");
        const shown = document.getElementById("result");
        const wasOpen = shown.querySelector("details")?.open;
        const fresh = document.importNode(result, true);
        if (wasOpen && fresh.querySelector("details")) {
            fresh.querySelector("details").open = true;
        }
        fresh.dataset.query = query();
        shown.replaceWith(fresh);
        window.converge.addButtons(fresh);
    };

    const keep = () => {
        const values = JSON.stringify(Object.fromEntries(query()));
        if (store((storage) => storage.setItem(KEPT, values) ?? true)) {
            kept.hidden = false;
        }
    };

    const restore = () => {
        const values = store((storage) => JSON.parse(storage.getItem(KEPT)));
        if (!values) {
            return false;
        }
        for (const field of fields()) {
            if (typeof values[field.name] === "string") {
                field.value = values[field.name];
            }
        }
        kept.hidden = false;
        return true;
    };

    let timer;
    form.addEventListener("input", () => {
        keep();
        clearTimeout(timer);
        timer = setTimeout(show, 250);
    });
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        keep();
        show();
    });
    document.getElementById("forget").addEventListener("click", () => {
        store((storage) => storage.removeItem(KEPT));
        window.location.assign("usage");
    });

    form.classList.add("scripted");
    // What stands in the page's address goes before what was kept.
    if (!window.location.search && restore()) {
        show();
    }
})();
