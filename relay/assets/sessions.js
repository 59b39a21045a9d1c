// Keeps the list live: takes rows over as the relay sends them, and counts durations on. Without this script a reload
// shows what is new.
"use strict";

(() => {
    const form = document.getElementById("filter");
    const rows = document.getElementById("rows");
    const state = document.getElementById("live");
    const none = document.getElementById("none");
    let page = new URLSearchParams(window.location.search).get("page") ?? "";
    let source = null;
    let timer;

    const say = (name, text) => {
        if (state.dataset.state !== name) {
            state.dataset.state = name;
            state.textContent = text;
        }
    };

    // As the relay says it, too (`duration` in row.rs).
    const duration = (seconds) => {
        const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
        if (days) {
            return `${days} d ${hours} h`;
        }
        if (hours) {
            return `${hours} h ${minutes} min`;
        }
        return minutes ? `${minutes} min` : `${seconds} s`;
    };

    const count = () => {
        const now = Math.floor(Date.now() / 1000);
        for (const time of rows.querySelectorAll("time")) {
            const { since, until } = time.dataset;
            const seconds = since ? now - Number(since) : Number(until) - now;
            const text = duration(Math.max(0, seconds));
            if (time.textContent !== text) {
                time.textContent = text;
            }
        }
    };

    const row = (html) => {
        const template = document.createElement("template");
        template.innerHTML = html;
        return template.content.firstElementChild;
    };

    const apply = (update) => {
        const shown = new Map([...rows.children].map((element) => [element.id, element]));
        for (const [id, html] of update.rows ?? []) {
            const fresh = row(html);
            const old = shown.get(fresh.id);
            if (old) {
                old.replaceWith(fresh);
            } else {
                fresh.classList.add("fresh");
            }
            shown.set(`a-${id}`, fresh);
        }
        if (update.order) {
            const wanted = update.order.map((id) => shown.get(`a-${id}`)).filter(Boolean);
            const keeps = new Set(wanted);
            for (const element of [...rows.children]) {
                if (!keeps.has(element)) {
                    element.remove();
                }
            }
            // Only what is not in its place moves, so that nobody loses the place they read at.
            wanted.forEach((element, place) => {
                if (rows.children[place] !== element) {
                    rows.insertBefore(element, rows.children[place] ?? null);
                }
            });
            none.hidden = wanted.length > 0;
        }
        if (update.summary !== undefined) {
            document.getElementById("summary").textContent = update.summary;
        }
        if (update.relays !== undefined) {
            document.getElementById("relays").innerHTML = update.relays;
        }
        if (update.pager !== undefined) {
            document.getElementById("pager").innerHTML = update.pager;
        }
        count();
    };

    const query = () => {
        const values = [...form.elements].filter((field) => field.name && field.value).map((field) => [field.name, field.value]);
        return new URLSearchParams(page ? [...values, ["page", page]] : values);
    };

    const watch = () => {
        clearTimeout(timer);
        source?.close();
        source = new EventSource(`sessions/live?${query()}`);
        source.onopen = () => say("on", "Live");
        source.onmessage = (event) => apply(JSON.parse(event.data));
        source.onerror = () => {
            if (source.readyState === EventSource.CLOSED) {
                // The relay does not want one more, or something in between does not let it through.
                say("off", "Not live: reload to see what is new");
                timer = setTimeout(watch, 30_000);
            } else {
                say("lost", "Looking for the relay…");
            }
        };
    };

    const search = () => {
        page = "";
        const wanted = query().toString();
        window.history.replaceState(null, "", wanted ? `sessions?${wanted}` : "sessions");
        watch();
    };

    let typing;
    form.addEventListener("input", () => {
        clearTimeout(typing);
        typing = setTimeout(search, 250);
    });
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        search();
    });
    form.classList.add("scripted");
    setInterval(count, 1000);
    watch();
})();
