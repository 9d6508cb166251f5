"""AWS IoT's credentials provider for devices, in front of moto's STS.

argv: a directory with ca.crt, server.crt and server.key, and for how many seconds credentials are said to last. The first line of
standard input says how to get into moto; with its end this ends. Prints the port, and then a line for each request.
"""

import datetime
import http.server
import json
import ssl
import sys
import threading

import boto3
from botocore.exceptions import ClientError

directory, seconds = sys.argv[1], int(sys.argv[2])
access = json.loads(sys.stdin.readline())
session = boto3.Session(
    aws_access_key_id=access["access_key_id"],
    aws_secret_access_key=access["secret_access_key"],
    region_name=access["region"],
)
iam, sts = (session.client(name, endpoint_url=access["endpoint"]) for name in ("iam", "sts"))


def policy(**statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


# In AWS the service credentials.iot.amazonaws.com; moto knows no services here.
trust = policy(Principal={"AWS": "*"}, Action="sts:AssumeRole")
role = iam.create_role(RoleName="device", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
iam.put_role_policy(RoleName="device", PolicyName="rows", PolicyDocument=policy(Action="dynamodb:*", Resource="*"))


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        subject = dict(part[0] for part in self.connection.getpeercert()["subject"])["commonName"]
        thing = self.headers.get("x-amzn-iot-thingname")
        if thing != subject:
            return self.answer(403, {"message": "Access Denied"}, thing)
        if self.path != "/role-aliases/ioto-device/credentials":
            return self.answer(404, {"message": "Invalid Role Alias"}, thing)
        try:
            keys = sts.assume_role(RoleArn=role, RoleSessionName=subject)["Credentials"]
        except ClientError as error:
            return self.answer(500, {"message": str(error)}, thing)
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        credentials = {
            "accessKeyId": keys["AccessKeyId"],
            "secretAccessKey": keys["SecretAccessKey"],
            "sessionToken": keys["SessionToken"],
            "expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return self.answer(200, {"credentials": credentials}, thing)

    def answer(self, status, body, thing):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(status, thing, flush=True)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/server.crt", f"{directory}/server.key")
context.load_verify_locations(f"{directory}/ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
