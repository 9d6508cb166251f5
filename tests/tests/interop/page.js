// What a page in a browser can do with webtest. with_chromium.py calls run("own") or run("foreign").

const isSecure = location.protocol === "https:";
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

function equal(got, expected, what = "") {
  const [a, b] = [got, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what} is ${a}, expected ${b}`);
}

function until(what, begin) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`not in time: ${what}`)), 15000);
    begin(resolve, reject);
  });
}

const text = async (path, options) => (await fetch(path, options)).text();
const json = async (path, options) => (await fetch(path, options)).json();
const status = async (path, options) => (await fetch(path, options)).status;
const fails = async (path, options) => fetch(path, options).then(() => false, () => true);

// The frame's text, after a form was sent into it.
async function sent(form, submit) {
  const frame = document.querySelector("iframe");
  await until("the answer to a form", (resolve) => {
    frame.addEventListener("load", resolve, { once: true });
    submit(form);
  });
  return frame.contentDocument;
}

// How a WebSocket ends, and what it said until then.
function talk(url, protocols, open, message) {
  return until("the end of a WebSocket", (resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => open?.(socket);
    socket.onmessage = ({ data }) => message?.(socket, data);
    socket.onclose = ({ code, wasClean }) =>
      resolve({ code, wasClean, protocol: socket.protocol, extensions: socket.extensions });
  });
}

const own = {
  async "cookies: HttpOnly, path"() {
    equal(await text("/test/cookie?name=c&value=v"), "success\n");
    await text("/test/cookie?name=p&value=v&path=/stream");
    equal(document.cookie, "", "what scripts see");
    const sent = (await json("/test/show")).headers.Cookie;
    equal([sent.includes("c=v"), sent.includes("p=v")], [true, false], sent);
  },
  async "a session"() {
    const token = await text("/test/session/create");
    equal(await text(`/test/session/check?${token}`), "success");
    equal(await text(`/test/session/check?${token}`, { credentials: "omit" }), "token mismatch");
  },
  async "server-sent events"() {
    const events = await until("100 events", (resolve, reject) => {
      const source = new EventSource("/test/event"), found = [];
      source.onmessage = ({ data, lastEventId }) => {
        found.push([lastEventId, data]);
        if (found.length === 100) {
          source.close();
          resolve(found);
        }
      };
      source.onerror = () => {
        source.close();
        reject(new Error(`the end after ${found.length} events`));
      };
    });
    events.forEach((event, number) => equal(event, [String(number), `Event ${number}`]));
  },
  async "WebSocket: echo with the sub-protocol"() {
    const messages = ["a", "", "ü\u2028\u{1F600}", "x".repeat(100000), new Uint8Array(60000).fill(7)], echoed = [];
    const end = await talk("/test/ws", ["other", "chat"],
      (socket) => messages.forEach((message) => socket.send(message)),
      (socket, data) => {
        echoed.push(typeof data === "string" ? data : new Uint8Array(data));
        if (echoed.length === messages.length) socket.close(3000, "done");
      });
    equal(end, { code: 3000, wasClean: true, protocol: "chat", extensions: "" });
    echoed.forEach((data, at) => equal(String(data), String(messages[at])));
  },
  async "WebSocket: too much is 1009, another sub-protocol is none"() {
    const end = await talk("/test/ws", "chat", (socket) => socket.send("x".repeat(102401)));
    equal(end.code, 1009);
    equal((await talk("/test/ws", "other")).code, 1006);
    equal((await talk("/test/ws", [], (socket) => socket.close(1000))).wasClean, true);
  },
  async "WebSocket: silent for longer than the time between pings"() {
    const silence = (socket) => setTimeout(() => socket.send("still there"), 2500);
    let said;
    const end = await talk("/test/ws", "chat", silence, (socket, data) => {
      said = data;
      socket.close(1000);
    });
    equal([said, end.code, end.wasClean], ["still there", 1000, true]);
  },
  async "files by FormData"() {
    const body = new FormData();
    body.append("text", "ü\r\n&=");
    body.append("one", new Blob([new Uint8Array(1000000)], { type: "image/png" }), "ä \"q\".png");
    body.append("many", new File(["1"], "1.txt"));
    body.append("many", new File([], "2.txt"));
    const shown = await json("/test/upload", { method: "POST", body });
    equal(shown.form, { text: "ü\r\n&=" });
    const files = shown.uploads.map((file) => [file.name, file.clientFilename, file.size]);
    equal([files[0][0], files[0][2]], ["one", 1000000]);
    equal(files.slice(1), [["many", "1.txt", 1], ["many", "2.txt", 0]]);
    equal(shown.uploads[0].contentType, "image/png");
    // Browsers write a quote so, and no other character.
    equal(files[0][1], "ä %22q%22.png", "the name of the file");
  },
  async "files by a form of the page"() {
    const form = document.getElementById("files"), chosen = new DataTransfer();
    chosen.items.add(new File(["x".repeat(200000)], "a b.txt", { type: "text/plain" }));
    chosen.items.add(new File(["y"], "c;d.bin"));
    form.elements.file.files = chosen.files;
    const page = await sent(form, () => form.elements.button.click());
    const shown = JSON.parse(page.body.textContent);
    equal(shown.form, { text: "ü & =", button: "pressed" });
    equal(shown.uploads.map((file) => [file.clientFilename, file.size]), [["a b.txt", 200000], ["c;d.bin", 1]]);
    equal(shown.headers.Origin, location.origin);
  },
  async "fields by a form of the page"() {
    const page = await sent(document.getElementById("fields"), (form) => form.submit());
    equal(page.forms[0].elements.name.value, "<b> ü");
    const shown = JSON.parse(page.querySelector("pre").textContent);
    equal(shown.form, { name: "<b> ü", address: "two\r\nlines" });
  },
  async "XSRF"() {
    const token = (await fetch("/test/xsrf")).headers.get("X-XSRF-TOKEN");
    equal(await status("/test/xsrf", { method: "POST" }), 400, "without the token");
    equal(await text("/test/xsrf", { method: "POST", headers: { "X-XSRF-TOKEN": token } }), "success");
    const body = new FormData();
    body.append("-xsrf-", token);
    body.append("file", new Blob(["x".repeat(50000)]));
    equal(await text("/test/xsrf", { method: "POST", body }), "success");
    const headers = { "X-XSRF-TOKEN": token };
    equal(await status("/test/xsrf", { method: "POST", credentials: "omit", headers }), 400, "without the cookie");
  },
  async "a body as a stream"() {
    const answer = await fetch("/test/bulk?count=40000");
    let length = 0;
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
    }
    equal(length, 40000 * 23);
    const control = new AbortController();
    const endless = await fetch("/test/bulk?count=100000000", { signal: control.signal });
    await endless.body.getReader().read();
    control.abort();
    equal(await text("/test/success"), "success\n", "after one that was given up");
  },
  async "a large upload"() {
    equal(await text("/test/put", { method: "PUT", body: new Blob([new Uint8Array(5000000)]) }), "5000000\n");
    equal(await status("/test/show", { method: "POST", body: new Blob([new Uint8Array(200000)]) }), 413);
  },
  async "ranges"() {
    const answer = await fetch("/letters.txt", { headers: { Range: "bytes=1-3" } });
    equal([answer.status, await answer.text(), answer.headers.get("Content-Range")], [206, "bcd", "bytes 1-3/26"]);
    equal(await status("/letters.txt", { headers: { Range: "bytes=26-" } }), 416);
  },
  async "the cache"() {
    const path = "/app/big.txt", ask = async (cache) => {
      performance.clearResourceTimings();
      equal((await text(path, { cache })).length, 200000, cache);
      return performance.getEntriesByType("resource").find(({ name }) => name.endsWith(path)).transferSize;
    };
    equal((await ask("reload")) > 200000, true, "bytes of the first");
    equal(await ask("default"), 0, "bytes within its age");
    const again = await ask("no-cache");
    equal(again > 0 && again < 2000, true, `${again} bytes of a 304`);
  },
  async "compressed files"() {
    const answer = await fetch("/app/y.txt");
    const coding = answer.headers.get("Content-Encoding");
    equal([coding === "br" || coding === "gzip", await answer.text()], [true, `from ${coding}`.repeat(100)]);
    if (isSecure) equal(coding, "br");
  },
  async "passwords that the browser sends"() {
    for (const path of isSecure ? ["/digest/", "/md5/", "/basic/"] : ["/digest/", "/md5/"]) {
      const answer = await until(path, (resolve) => {
        const request = new XMLHttpRequest();
        request.open("GET", path, true, "jo", "open sesame");
        request.onloadend = () => resolve([request.status, request.responseText]);
        request.send();
      });
      equal(answer, [200, "inside"], path);
    }
  },
  async "login and logout"() {
    const body = new URLSearchParams({ username: "jo", password: "open sesame" });
    if (!isSecure) return equal(await status("/login", { method: "POST", body }), 403, "a password in plain text");
    const redirect = "manual";
    equal(await status("/session/"), 401);
    equal((await fetch("/login", { method: "POST", body, redirect })).type, "opaqueredirect");
    const answer = await fetch("/session/");
    equal([answer.status, await answer.text()], [200, "inside"]);
    const path = "/session-action/test/show";
    equal(await status(path, { method: "POST", body: "x" }), 403, "without the token");
    const headers = { "X-XSRF-TOKEN": answer.headers.get("X-XSRF-TOKEN") };
    equal((await json(path, { method: "POST", body: "x", headers })).user, "jo");
    equal(await status("/logout", { method: "POST" }), 204);
    equal(await status("/session/"), 401);
  },
  async "PUT, DELETE, HEAD"() {
    equal(await status("/put/page", { method: "PUT", body: "new" }), 201);
    equal(await text("/put/page", { cache: "no-store" }), "new");
    const head = await fetch("/put/page", { method: "HEAD" });
    equal([head.headers.get("Content-Length"), await head.text()], ["3", ""]);
    equal(await status("/put/page", { method: "DELETE" }), 204);
    equal(await status("/put/page", { cache: "no-store" }), 404);
  },
  async "redirects"() {
    const answer = await fetch("/old.html");
    equal([answer.redirected, answer.url], [true, `${location.origin}/index.html`]);
    equal(await text("/moved", { method: "POST", body: "abc" }), "3\n");
    equal((await json("/see", { method: "POST", body: "abc" })).method, "GET");
  },
  async "50 requests at once"() {
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => json(`/test/show?n=${n}`)));
    answers.forEach((answer, n) => equal(answer.query.n, String(n)));
  },
};

// A page of another site, which the server lets in.
const foreign = {
  async "another site: answers can be read"(target) {
    equal(await text(`${target}/letters.txt`), LETTERS);
  },
  async "another site: the question before"(target) {
    const headers = { "Content-Type": "application/json", "X-Custom": "x" };
    const shown = await json(`${target}/test/show`, { method: "POST", headers, body: '{"a":1}' });
    equal([shown.form, shown.headers["X-Custom"], shown.headers.Origin], [{ a: 1 }, "x", location.origin]);
    equal(await status(`${target}/put/foreign`, { method: "PUT", body: "x" }), 201);
    equal(await status(`${target}/put/foreign`, { method: "DELETE" }), 204);
    equal(await fails(`${target}/test/show`, { headers: { "X-Other": "x" } }), true, "a field that is not allowed");
    equal(await fails(`${target}/letters.txt`, { method: "PUT", body: "x" }), true, "a method that is not allowed");
  },
  async "another site: fields that are shown"(target) {
    const answer = await fetch(`${target}/letters.txt`, { headers: { Range: "bytes=0-1" } });
    equal([answer.status, answer.headers.get("Content-Range")], [206, "bytes 0-1/26"]);
    equal((await fetch(`${target}/test/xsrf`)).headers.get("X-XSRF-TOKEN"), null);
  },
  async "another site: errors can be read, a login is asked for after the question"(target) {
    equal(await status(`${target}/none`), 404);
    equal(await status(`${target}/session/`, { headers: { "X-Custom": "x" } }), 401);
  },
  async "another site: cookies stay away (SameSite)"(target) {
    const options = { credentials: "include" };
    await text(`${target}/test/cookie?name=c&value=v`, options);
    equal((await json(`${target}/test/show`, options)).headers.Cookie ?? null, null);
  },
  async "another site: no WebSocket"(target) {
    equal((await talk(`${target.replace("http", "ws")}/test/ws`, "chat")).code, 1006);
  },
};

// A page of another origin, which the server does not know.
const stranger = {
  async "a stranger: nothing can be read"(target) {
    equal(await fails(`${target}/letters.txt`), true);
    equal(await fails(`${target}/test/show`, { method: "POST", headers: { "X-Custom": "x" }, body: "x" }), true);
  },
  async "a stranger: no WebSocket"(target) {
    equal((await talk(`${target.replace("http", "ws")}/test/ws`, "chat")).code, 1006);
  },
};

// Runs all of a kind, one after the other: pairs of a name and what went wrong, or null.
async function run(kind, target) {
  const results = [];
  for (const [name, check] of Object.entries({ own, foreign, stranger }[kind])) {
    results.push([name, await check(target).then(() => null, (error) => String(error))]);
  }
  return results;
}
