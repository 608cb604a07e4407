"""Answers with the version that runs. Change ANSWER and deploy again to release something."""

ANSWER = "hello"


def handler(event, context):
    return {"statusCode": 200, "body": f"{ANSWER} from version {context.function_version}\n"}
