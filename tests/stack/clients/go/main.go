// SPDX-License-Identifier: Apache-2.0

// mautrix-go behind the line protocol of the client tests (../driver.py).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"os"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

type object = map[string]any

func say(message object) {
	line, _ := json.Marshal(message)
	os.Stdout.Write(append(line, '\n'))
}

// firstByte tells when something is written to it for the first time.
type firstByte struct {
	io.Writer
	told bool
}

func (writer *firstByte) Write(data []byte) (int, error) {
	if !writer.told {
		writer.told = true
		say(object{"event": "first_byte"})
	}
	return writer.Writer.Write(data)
}

func download(ctx context.Context, client *mautrix.Client, mxc id.ContentURI, to string) (object, error) {
	response, err := client.Download(ctx, mxc)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	file, err := os.Create(to)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err = io.Copy(&firstByte{Writer: file}, response.Body); err != nil {
		return nil, err
	}
	_, parameters, _ := mime.ParseMediaType(response.Header.Get("Content-Disposition"))
	return object{"type": response.Header.Get("Content-Type"), "name": parameters["filename"]}, nil
}

func obey(ctx context.Context, client *mautrix.Client, command map[string]string) (object, error) {
	mxc, _ := id.ParseContentURI(command["mxc"])
	media := mautrix.ReqUploadMedia{ContentType: command["type"], FileName: command["name"], MXC: mxc}
	switch command["do"] {
	case "upload":
		content, err := os.ReadFile(command["file"])
		if err != nil {
			return nil, err
		}
		media.ContentBytes = content
		response, err := client.UploadMedia(ctx, media)
		if err != nil {
			return nil, err
		}
		return object{"mxc": response.ContentURI.String()}, nil
	case "create":
		response, err := client.CreateMXC(ctx)
		if err != nil {
			return nil, err
		}
		return object{"mxc": response.ContentURI.String()}, nil
	case "fill": // as a stream of unknown length, which bridges use for large files
		file, err := os.Open(command["file"])
		if err != nil {
			return nil, err
		}
		defer file.Close()
		media.Content = file
		_, err = client.UploadMedia(ctx, media)
		return object{}, err
	case "download":
		return download(ctx, client, mxc, command["to"])
	case "config":
		response, err := client.GetMediaConfig(ctx)
		if err != nil {
			return nil, err
		}
		return object{"max": response.UploadSize}, nil
	}
	return object{"unsupported": true}, nil
}

func told(err error) object {
	answer := object{"message": err.Error()}
	var refused mautrix.HTTPError
	if errors.As(err, &refused) {
		if refused.Response != nil {
			answer["status"] = refused.Response.StatusCode
		}
		if refused.RespError != nil {
			answer["errcode"] = refused.RespError.ErrCode
		}
	}
	return object{"error": answer}
}

func main() {
	client, err := mautrix.NewClient(os.Getenv("HOMESERVER"), id.UserID(os.Getenv("USER_ID")), os.Getenv("ACCESS_TOKEN"))
	if err != nil {
		panic(err)
	}
	if os.Getenv("NO_RETRIES") == "" {
		client.DefaultHTTPRetries = 4 // as its bridges have it; they begin with 4 s
		client.DefaultHTTPBackoff = 500 * time.Millisecond
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command := map[string]string{}
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			panic(err)
		}
		answer, err := obey(context.Background(), client, command)
		if err != nil {
			answer = told(err)
		}
		say(answer)
	}
}
