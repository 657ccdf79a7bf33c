// A chat service as the source documents would have it (Express, pg, axios, one process, no queue),
// written without haste: what the fleet's turn is measured against. Settings come from the environment:
// DATABASE_URL, DB_SCHEMA, DB_POOL_MAX, JWT_SECRET, MODEL_URL (…/v1), DEFAULT_MODEL, PORT.
'use strict';

const http = require('node:http');
const axios = require('axios');
const express = require('express');
const jwt = require('jsonwebtoken');
const { Pool } = require('pg');

const HISTORY_MESSAGES = 30;
const MAX_MESSAGE_LENGTH = 4000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const SYSTEM_PROMPT = 'You are a career counselling assistant. You help people to understand their ' +
  'interests and strengths, and to find work and study that fit them. Be concrete and kind.';
const model = process.env.DEFAULT_MODEL || 'instant';

const pool = new Pool({
  connectionString: process.env.DATABASE_URL,
  max: Number(process.env.DB_POOL_MAX || 20),
  options: `-c search_path=${process.env.DB_SCHEMA || 'chat'}`,
});

const openrouter = axios.create({
  baseURL: process.env.MODEL_URL,
  timeout: 45000,
  httpAgent: new http.Agent({ keepAlive: true }),
  headers: { 'Content-Type': 'application/json' },
});

function authenticate(req, res, next) {
  const [scheme, token] = (req.get('authorization') || '').split(' ');
  if (scheme !== 'Bearer' || !token) return res.status(401).json({ error: 'Unauthorized' });
  try {
    const claims = jwt.verify(token, process.env.JWT_SECRET, { algorithms: ['HS256'] });
    req.user = { id: claims.sub };
    return next();
  } catch {
    return res.status(401).json({ error: 'Unauthorized' });
  }
}

function validateMessage(req, res, next) {
  const { content, content_type: type = 'text' } = req.body || {};
  if (!UUID.test(req.params.conversationId)) {
    return res.status(400).json({ error: 'Invalid conversation id' });
  }
  if (typeof content !== 'string' || content.length < 1 || content.length > MAX_MESSAGE_LENGTH) {
    return res.status(400).json({ error: `content must have 1 to ${MAX_MESSAGE_LENGTH} characters` });
  }
  if (!['text', 'image', 'file'].includes(type)) {
    return res.status(400).json({ error: 'content_type must be text, image or file' });
  }
  return next();
}

// The prompt: what the assistant is, then the latest messages, the oldest first; the question is
// the last of them.
async function buildContext(conversationId) {
  const { rows } = await pool.query(
    `SELECT sender_type, content FROM messages WHERE conversation_id = $1
     ORDER BY created_at DESC LIMIT $2`, [conversationId, HISTORY_MESSAGES]);
  const history = rows.reverse().map((m) => ({ role: m.sender_type, content: m.content }));
  return [{ role: 'system', content: SYSTEM_PROMPT }, ...history];
}

async function generateResponse(messages, userId) {
  const started = Date.now();
  const { data } = await openrouter.post('/chat/completions', {
    model, messages, max_tokens: 1000, temperature: 0.7, user: userId, usage: { include: true },
  });
  return {
    content: data.choices[0].message.content,
    finishReason: data.choices[0].finish_reason,
    model: data.model,
    usage: { ...data.usage, cost: data.usage.cost || 0 },
    isFree: data.model.includes(':free'),
    processingTime: Date.now() - started,
  };
}

async function saveAnswer(conversationId, questionId, answer) {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const { rows: [message] } = await client.query(
      `INSERT INTO messages (conversation_id, sender_type, content, metadata, parent_message_id)
       VALUES ($1, 'assistant', $2, $3, $4) RETURNING *`,
      [conversationId, answer.content,
        { model: answer.model, finish_reason: answer.finishReason, processing_time: answer.processingTime },
        questionId]);
    await client.query(
      `INSERT INTO usage_tracking (conversation_id, message_id, model_used, prompt_tokens,
         completion_tokens, total_tokens, cost_credits, is_free_model, processing_time_ms)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
      [conversationId, message.id, answer.model, answer.usage.prompt_tokens,
        answer.usage.completion_tokens, answer.usage.total_tokens, answer.usage.cost, answer.isFree,
        answer.processingTime]);
    await client.query('UPDATE conversations SET updated_at = now() WHERE id = $1', [conversationId]);
    await client.query('COMMIT');
    return message;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

async function sendMessage(req, res) {
  const { conversationId } = req.params;
  const { content, content_type: type = 'text' } = req.body;
  const { rows: [conversation] } = await pool.query(
    "SELECT id, status FROM conversations WHERE id = $1 AND user_id = $2 AND status <> 'deleted'",
    [conversationId, req.user.id]);
  if (!conversation) return res.status(404).json({ error: 'Conversation not found' });
  const { rows: [question] } = await pool.query(
    `INSERT INTO messages (conversation_id, sender_type, content, content_type)
     VALUES ($1, 'user', $2, $3) RETURNING *`, [conversationId, content, type]);
  const answer = await generateResponse(await buildContext(conversationId), req.user.id);
  const message = await saveAnswer(conversationId, question.id, answer);
  return res.json({
    user_message: question,
    assistant_message: message,
    usage: {
      prompt_tokens: answer.usage.prompt_tokens,
      completion_tokens: answer.usage.completion_tokens,
      total_tokens: answer.usage.total_tokens,
      cost: answer.usage.cost,
      model: answer.model,
      is_free_model: answer.isFree,
    },
  });
}

const app = express();
app.disable('x-powered-by');
app.set('etag', false);
app.use(express.json({ limit: '1mb' }));
app.post('/api/chat/conversations/:conversationId/messages', authenticate, validateMessage, sendMessage);
app.use((error, req, res, next) => { // eslint-disable-line no-unused-vars
  console.error(error);
  res.status(error.status || 502).json({ error: error.message });
});

const server = app.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
process.on('SIGTERM', () => process.exit(0));
