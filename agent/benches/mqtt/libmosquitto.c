/* What `ci/bench mqtt` compares us with: publishes through libmosquitto, and tells what it took.
 * Usage: libmosquitto PORT QOS MESSAGES BYTES WINDOW */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static long done;
static int connected;

static void on_connect(struct mosquitto *m, void *data, int code) {
    (void)m, (void)data;
    connected = code == 0;
}

static void on_publish(struct mosquitto *m, void *data, int id) {
    (void)m, (void)data, (void)id;
    done++;
}

static void step(struct mosquitto *m, int timeout) {
    if (mosquitto_loop(m, timeout, 1) != MOSQ_ERR_SUCCESS) {
        fprintf(stderr, "the connection broke\n");
        exit(1);
    }
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* The most memory so far, in KB. What getrusage says counts what the parent had before exec. */
static long memory(void) {
    char line[256];
    long found = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &found) == 1)
            break;
    if (status)
        fclose(status);
    return found;
}

int main(int count, char **words) {
    if (count != 6)
        return 2;
    int port = atoi(words[1]), qos = atoi(words[2]), bytes = atoi(words[4]);
    long messages = atol(words[3]), window = atol(words[5]);
    mosquitto_lib_init();
    struct mosquitto *m = mosquitto_new("bench-c", true, NULL);
    mosquitto_connect_callback_set(m, on_connect);
    mosquitto_publish_callback_set(m, on_publish);
    mosquitto_max_inflight_messages_set(m, window);
    if (mosquitto_connect(m, "127.0.0.1", port, 60) != MOSQ_ERR_SUCCESS)
        return 1;
    mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1);
    while (!connected)
        step(m, 1000);
    char *payload = malloc(bytes);
    memset(payload, 'x', bytes);
    double before = cpu();
    for (long sent = 0; sent < messages; sent++) {
        while (qos > 0 && sent - done >= window)
            step(m, 1000);
        if (mosquitto_publish(m, NULL, "bench/topic", bytes, payload, qos, false) != MOSQ_ERR_SUCCESS)
            return 1;
        if (qos == 0 && sent % 100 == 0)
            step(m, 0);
    }
    while (done < messages || mosquitto_want_write(m))
        step(m, 1000);
    double took = cpu() - before;
    printf("{\"cpu\": %.6f, \"rss\": %ld}\n", took, memory());
    mosquitto_disconnect(m);
    return 0;
}
